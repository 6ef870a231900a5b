"""LoRAs that a prompt names, as AUTOMATIC1111's web UI writes them.

<lora:name>          counts 1                     <lora:name:0.8>       0.8 in U-Net and text encoders
<lora:name:0.8:0.5>  0.8 in the text encoders, 0.5 in the U-Net         <lora:name:te=0.8:unet=0.5>  the same
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from undiffuse.conditioners.clip import PLAIN
from undiffuse.core.errors import SpecError, explain
from undiffuse.generation.request import Request

TAG = re.compile(r"<(?:lora|lyco):([^<>]*)>")
FORMS = "<lora:NAME>, <lora:NAME:WEIGHT> and <lora:NAME:TEXT_WEIGHT:UNET_WEIGHT> are read"


class Tag(NamedTuple):
    """A LoRA that is named in a prompt, and how much it shall count in the U-Net and in the text encoders."""

    name: str
    weight: float = 1.0
    text_weight: float = 1.0


def tags_of(request: Request) -> tuple[Tag, ...]:
    """The LoRAs in the prompt of a request, in their order; one that is named twice counts as much as both.

    The grammar "plain" has none: there they are words.

    Raises:
        SpecError: for a tag without a name, or whose weights are no numbers.
    """
    found: dict[str, Tag] = {}
    for inside in TAG.findall(request.prompt) if _reads_tags(request) else ():
        tag = _tag(inside)
        before = found.get(tag.name, Tag(tag.name, 0, 0))
        found[tag.name] = Tag(tag.name, before.weight + tag.weight, before.text_weight + tag.text_weight)
    return tuple(found.values())


def spoken(request: Request) -> str:
    """The prompt of a request without its tags."""
    return TAG.sub("", request.prompt) if _reads_tags(request) else request.prompt


def _reads_tags(request: Request) -> bool:
    return request.context.get("grammar") != PLAIN


def _tag(inside: str) -> Tag:
    name, *rest = (part.strip() for part in inside.split(":"))
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    plain = [part for part in rest if "=" not in part]
    try:
        text = float(named.pop("te", plain[0] if plain else 1))
        unet = float(named.pop("unet", plain[1] if len(plain) > 1 else text))
    except ValueError:
        text = unet = math.nan
    if not name or named or not (math.isfinite(text) and math.isfinite(unet)):
        raise SpecError(explain(f"<lora:{inside}> in the prompt", FORMS, "for instance <lora:style:0.8>"))
    return Tag(name, unet, text)
