"""Words and clicks of the first moments of a page count."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serving.conftest import Served
from tests.studio.hands import SEED, open_tab

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")

LATE_END = """
const reach = window.fetch, decoder = new TextDecoder(), encoder = new TextEncoder();
const late = () => new TransformStream({
  async transform(some, on) {
    const [before, end] = decoder.decode(some).split(/(?=data: [^\\n]*close_stream)/);
    if (before) on.enqueue(encoder.encode(before));
    if (end) await new Promise((now) => setTimeout(now, 2000));
    if (end) on.enqueue(encoder.encode(end));
  },
});
window.fetch = async (what, how) => {
  const answer = await reach(what, how);
  return (what.url ?? "").includes("/queue/data") ? new Response(answer.body.pipeThrough(late()), answer) : answer;
};
"""
"""The page reads the end of the stream of answers two seconds late, so that there is time to click before."""
AT_ONCE = """
const fill = (found, text) => { found.value = text; found.dispatchEvent(new Event("input", { bubbles: true })); };
new MutationObserver((_, watch) => {
  const fields = ["Prompt", "Seed (empty: any)"].map((name) => [...document.querySelectorAll("label")].find(
    (label) => label.offsetParent && label.textContent.trim() === name)?.querySelector("input, textarea"));
  if (!fields.every(Boolean)) return;
  watch.disconnect();
  fill(fields[0], "a fox");
  fill(fields[1], "7");
}).observe(document, { subtree: true, childList: true });
"""
"""Fields are filled in as soon as they are on the page."""


def test_what_is_filled_in_at_once_stays(page: Any, studio: Served) -> None:
    page.add_init_script(AT_ONCE)
    page.goto(f"{studio.url}/studio/")
    panel = open_tab(page, "Draw")
    panel.get_by_text("More", exact=True).click()

    playwright.expect(panel.get_by_label("Class", exact=True)).to_have_value("no class")  # the fields fit the model by now
    assert panel.get_by_label("Prompt", exact=True).input_value() == "a fox"
    assert panel.get_by_label(SEED).input_value() == "7"


def test_a_click_is_heard_while_the_stream_of_answers_ends(page: Any, studio: Served) -> None:
    page.add_init_script(LATE_END)
    page.goto(f"{studio.url}/studio/")
    panel = open_tab(page, "Draw")
    panel.get_by_text("More", exact=True).click()
    panel.get_by_label("Class", exact=True).wait_for()  # the last answer has come, and the stream ends
    panel.get_by_role("button", name="Wear it").click()

    playwright.expect(panel.get_by_label("Prompt", exact=True)).to_have_value("<lora:style:0.8>")
