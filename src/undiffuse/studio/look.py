"""How the page looks, and its keys: fonts of the machine, nothing from the network."""

from __future__ import annotations

from gradio.themes import Base

SYSTEM = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "sans-serif")
SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

CSS = """
.gradio-container, .gradio-container > main { width: 100% !important; max-width: 1240px !important; margin: 0 auto !important; }
.head { display: flex; align-items: baseline; gap: .8rem; flex-wrap: wrap; padding: .3rem 0 .1rem; }
.head h1 { font-size: 1.35rem; font-weight: 650; letter-spacing: -.01em; margin: 0; }
.head span { color: var(--body-text-color-subdued); font-size: .9rem; }
.bar { height: 4px; border-radius: 2px; background: var(--border-color-primary); overflow: hidden; }
.bar > div { height: 100%; background: var(--color-accent); transition: width .15s linear; }
.bar-words { font-size: .8rem; color: var(--body-text-color-subdued); text-align: right; font-variant-numeric: tabular-nums; }
.prompt textarea { font-size: 1.02rem; line-height: 1.45; }
.swatches { display: flex; flex-wrap: wrap; gap: .35rem; }
.swatches span { display: inline-flex; align-items: center; gap: .35rem; font-size: .82rem; padding: .15rem .5rem;
  border: 1px solid var(--border-color-primary); border-radius: 99px; }
.swatches i { width: .85rem; height: .85rem; border-radius: 50%; border: 1px solid rgba(0,0,0,.25); }
.story { width: 100%; height: 75vh; border: 1px solid var(--border-color-primary); border-radius: 8px; background: white; }
footer { display: none !important; }
@media (max-width: 640px) { .gradio-container { padding: 0 .5rem !important; } .easel { height: 340px !important; } }
"""

HEAD = """
<script>
document.addEventListener("keydown", (event) => {
  const draws = event.key === "Enter" && (event.ctrlKey || event.metaKey);
  if (!draws && event.key !== "Escape") return;
  const wanted = draws ? ".act-draw" : ".act-cancel";
  const seen = [...document.querySelectorAll(wanted)].find((button) => button.offsetParent !== null);
  if (!seen) return;
  event.preventDefault();
  document.activeElement?.dispatchEvent(new Event("change", { bubbles: true }));
  seen.click();
});
</script>
"""


def theme() -> Base:
    """Plain, light or dark as the machine is, in its own fonts."""
    return Base(primary_hue="indigo", neutral_hue="slate", radius_size="md", font=SYSTEM, font_mono=SYSTEM_MONO)
