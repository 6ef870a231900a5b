"""LoRAs that a prompt wears: tags such as `<lora:style:0.8>`, written, changed and taken off."""

from __future__ import annotations

from collections.abc import Iterable

import gradio as gr

from undiffuse.core.errors import UsageError, explain
from undiffuse.generation.lora_tags import TAG

UNWRITABLE = set(":<>")  # they would end the name, or the tag


def wearable(names: Iterable[str]) -> list[str]:
    """Those of these LoRAs whose names can stand in a tag."""
    return [name for name in names if not UNWRITABLE & set(name)]


def wardrobe(names: list[str], prompt: gr.Textbox) -> None:
    """Put on the page, under a prompt, a LoRA to choose, its weight, and the button that writes its tag, if there are any."""
    if not names:
        return
    with gr.Row():
        lora = gr.Dropdown(names, value=names[0], label="LoRA", min_width=120)
        weight = gr.Slider(-1, 2, 0.8, step=0.05, label="Weight", min_width=120)
    wear = gr.Button("Wear it", size="sm")
    wear.click(worn, [prompt, lora, weight], [prompt], show_progress="hidden")


def worn(prompt: str, name: str, weight: float) -> str:
    """The prompt with this LoRA at this weight: behind it, or in place of the tag that it has; weight 0 takes it off.

    A tag of the form `<lora:name:0.8:0.5>` with a weight each for text encoders and U-Net gets the one weight.
    """
    tag = f"<lora:{name}:{weight:g}>" if weight else ""
    there = [match for match in TAG.finditer(prompt) if match[1].partition(":")[0].strip() == name]
    for match in reversed(there[1:]):
        prompt = _cut(prompt, *match.span())
    if not there:
        return f"{prompt} {tag}".strip()
    start, end = there[0].span()
    return prompt[:start] + tag + prompt[end:] if tag else _cut(prompt, start, end)


def named(value: str) -> tuple[str, float]:
    """A LoRA and its weight from "style:0.8"; "style" alone counts 1.

    Raises:
        UsageError: when the weight is no number, or there is no name.
    """
    name, _, weight = value.partition(":")
    try:
        number = float(weight or 1)
    except ValueError:
        number = float("nan")
    if not name.strip() or not abs(number) < float("inf"):
        raise UsageError(explain(f"{value!r} for a LoRA", "a name and a weight are needed", "for instance style:0.8"))
    return name.strip(), number


def _cut(text: str, start: int, end: int) -> str:
    """A text without a part of it, and with one space at most where that was."""
    return f"{text[:start].rstrip(' ')} {text[end:].lstrip(' ')}".strip(" ")
