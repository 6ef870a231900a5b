"""What keeps every click heard, also one at the moment at which Gradio's stream of answers ends.

The server ends the stream of answers as soon as nothing is pending. A click just then is accepted, but where the browser
reads that before it reads the end of the stream, Gradio waits for an answer on a stream that is gone. So the acceptance
is held back until the stream has told of this click, which it does at once, or Gradio has closed it and will open another.
"""

from __future__ import annotations

SCRIPT = """
<script>
{
  const MOST = 10000;  // milliseconds for which a click is held back at most
  const reach = window.fetch;
  let ended = Promise.resolve(), told = new Map();
  const tells = (name) => {
    if (!told.has(name)) {
      let hear;
      told.set(name, { heard: new Promise((now) => (hear = now)), hear });
    }
    return told.get(name);
  };
  const listen = async (body) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = "", one; !(one = await reader.read()).done; ) {
      rest += one.value;
      for (const found of rest.matchAll(/"event_id": *"(\\w+)"/g)) tells(found[1]).hear();
      rest = rest.slice(-100);
    }
  };
  window.fetch = async (what, how) => {
    const address = what.url ?? String(what), streams = address.includes("/queue/data?");
    if (streams) {
      told = new Map();
      ended = new Promise((now) => (what.signal ?? how?.signal)?.addEventListener("abort", now));
    }
    const answer = await reach(what, how);
    if (streams && answer.ok) listen(answer.clone().body).catch(() => {});
    if (answer.ok && address.includes("/queue/join")) {
      const { event_id } = await answer.clone().json();
      await Promise.race([ended, tells(event_id).heard, new Promise((late) => setTimeout(late, MOST))]);
    }
    return answer;
  };
}
</script>
"""
