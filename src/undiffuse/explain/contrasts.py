"""Other drawings from the same noise: without what was said, with something else said, with a word left out."""

from __future__ import annotations

import re
from typing import Any

from PIL import ImageOps

from undiffuse.conditioners.labels import known_labels
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

SUBJECTS = ("a sailboat", "a red apple", "a house")
SHOWN = {
    "mask": "a masked picture",
    "layout": "a map",
    "small": "a small picture",
    "like": "a picture to resemble",
    "depth": "a depth map",
}
MIRRORED = ("layout", "small", "depth")
SILENT: dict[str, tuple[str, Any]] = {
    "caption": ("prompt", ""),
    "label": ("label", None),
    "layout": ("layout", None),
    "boxes": ("boxes", ()),
    "like": ("like", None),
}
"""By what a part reads: the field of a request that says it, and what says nothing."""


def silenced(request: Request, model: LatentDiffusion) -> Request | None:
    """The same request saying nothing that guidance could follow, unguided; None where it says nothing anyway.

    What is known and not wished for, a masked picture, a small one or a depth map, stays.
    """
    guided = {field for part in model.conditioner.parts if part.guided for field in part.fields}
    said = {name: nothing for field, (name, nothing) in SILENT.items() if field in guided and getattr(request, name) != nothing}
    own = {name for name in request.context if name in guided and name != "grammar"}
    if not said and not own:
        return None
    context = {name: value for name, value in request.context.items() if name not in own}
    return request.replace(**said, context=context, negative="", guidance=1.0, scales={})


def unguided(request: Request) -> Request:
    """The same request, followed and not pushed."""
    return request.replace(negative="", guidance=1.0, scales={})


def otherwise(request: Request, model: LatentDiffusion, instead: str | None = None) -> Request | None:
    """The same request with something else said: the prompt `instead`, else what follows from the request.

    Of a prompt the subject before the first comma is another one, else the class is; maps, boxes and a small picture are
    seen in a mirror. None where nothing of that was said, or a mirror shows the same.
    """
    if instead is not None:
        return request.replace(prompt=instead)
    if request.prompt:
        subject, comma, rest = request.prompt.partition(",")
        other = next((word for word in SUBJECTS if word.split()[-1] not in subject.lower()), SUBJECTS[0])
        return request.replace(prompt=f"{other}{comma}{rest}")
    if request.label is not None:
        classes = known_labels(model.conditioner.parts)
        following = classes[(classes.index(request.label) + 1) % len(classes)]
        return request.replace(label=following) if following != request.label else None
    mirrored: dict[str, Any] = {
        name: ImageOps.mirror(picture) for name, picture in request.pictures().items() if name in MIRRORED
    }
    if request.boxes:
        mirrored["boxes"] = tuple((1 - right, top, 1 - left, *rest) for left, top, right, *rest in request.boxes)
    other = request.replace(**mirrored)
    return None if other == request else other


def said_in(request: Request) -> str:
    """What a request says, in words."""
    told = [request.prompt] if request.prompt else []
    told += [f"class {request.label}"] if request.label is not None else []
    told += [f"{label} in the box {', '.join(f'{side:g}' for side in box)}" for *box, label in request.boxes]
    told += [words for name, words in SHOWN.items() if getattr(request, name) is not None]
    return ", ".join(told) or "nothing"


def with_one_word_less(prompt: str, most: int) -> list[tuple[str, str]]:
    """Each of the first words of a prompt, with what is left without it; none where there is but one. Numbers stay."""
    words = [word for word in re.finditer(r"[\w'-]*\w[\w'-]*", prompt) if not word[0].isdigit()][:most]
    return [(word[0], _tidy(prompt[: word.start()] + prompt[word.end() :])) for word in words] if len(words) > 1 else []


def _tidy(prompt: str) -> str:
    """No space before a comma, no comma before a comma, none at the ends."""
    pieces = (" ".join(piece.split()) for piece in prompt.split(","))
    return ", ".join(piece for piece in pieces if piece)
