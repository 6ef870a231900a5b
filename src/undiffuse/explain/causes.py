"""Why two drawings are not the same: what differs between what they tell, and what each of it can act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from undiffuse.generation.output import CONTEXT, DIGEST, Origin

SHORT = 12  # digits of a hash that are told

LEVEL, X, UNCONDITIONAL, CONDITIONAL, X0, PICTURE = QUANTITIES = (
    "level", "x", "unconditional", "conditional", "x0", "picture",
)  # fmt: skip
"""What a step has, in the order in which it comes about; the picture comes last of all."""

ESTIMATES = (UNCONDITIONAL, CONDITIONAL)
ARITHMETIC = (X, *ESTIMATES, X0, PICTURE)  # what rounds otherwise

ACTS_ON: dict[str, tuple[str, ...]] = {
    "model": QUANTITIES,
    "additions": ESTIMATES,
    "refiner": ESTIMATES,
    "refine_at": ESTIMATES,
    "width": (X,),
    "height": (X,),
    "seed": (X,),
    "seeds": (X,),
    "variation": (X,),
    "ensd": (X,),
    "place": (X,),
    "image": (X, CONDITIONAL, UNCONDITIONAL, X0),
    "mask": (X, CONDITIONAL, UNCONDITIONAL, X0),
    "fill": (X, CONDITIONAL, UNCONDITIONAL, X0),
    "strength": (LEVEL, X),
    "sketch": (LEVEL, X),
    "steps": (LEVEL,),
    "hires": (LEVEL, X),
    "spacing": (LEVEL,),
    "solver": (LEVEL, X),
    "solver_options": (X,),
    "eta": (X,),
    "negative": (UNCONDITIONAL,),
    "prompt": ESTIMATES,
    "read_as": ESTIMATES,
    "clip_skip": ESTIMATES,
    "label": ESTIMATES,
    "layout": ESTIMATES,
    "small": (X, *ESTIMATES),
    "boxes": ESTIMATES,
    "like": ESTIMATES,
    "depth": ESTIMATES,
    "noise_level": ESTIMATES,
    "context": ESTIMATES,
    "scales": (*ESTIMATES, X0),
    "guidance": (X0,),
    "guidance_interval": (X0,),
    "guidance_rescale": (X0,),
    "engine": ARITHMETIC,
    "precision": ARITHMETIC,
    "device": ARITHMETIC,
    "batch": ARITHMETIC,
    "position": ARITHMETIC,
    "undiffuse": QUANTITIES,
    "torch": ARITHMETIC,
}
"""Everything that a picture tells, what matters most first, and what of a step it can change first."""


@dataclass(frozen=True)
class Cause:
    """One thing that differs: its name, and what it was in the first drawing and in the second."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name.replace('_', ' ')}: {_shown(self.before)} against {_shown(self.now)}"

    def can_act_on(self, quantity: str) -> bool:
        """Whether a drawing can go another way in this quantity first because of it."""
        return quantity in ACTS_ON.get(self.name.partition(".")[0], QUANTITIES)


def causes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Cause]:
    """Everything that differs between what two pictures tell (`told_of`), what matters most first."""
    first, second = _flat(before), _flat(now)
    if any("read_as" not in told["origin"] for told in (before, now)):  # a picture that was drawn before that was told
        first, second = ({name: value for name, value in one.items() if name != "read_as"} for one in (first, second))
    names = [*ACTS_ON, *sorted((first.keys() | second.keys()) - ACTS_ON.keys())]
    return [Cause(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is told, by the name that people know it by."""
    origin = Origin(**told["origin"])
    pictures = {key.removesuffix(DIGEST).removeprefix(CONTEXT): told[key][:SHORT] for key in told if key.endswith(DIGEST)}
    worn = [f"{one} ({one.hash[:SHORT]})" for one in origin.additions]
    found: dict[str, Any] = {name: value for name, value in told["request"].items() if name != "count"}
    context = found.pop("context", {})
    found |= {f"context.{name}": value for name, value in context.items()}
    found |= {name: f"picture {digest}" for name, digest in pictures.items()}
    found |= {"model": f"{origin.model} ({origin.model_hash})", "additions": worn or None}
    found["refiner"] = f"{origin.refiner} ({origin.refiner_hash})" if origin.refiner else None
    found |= {name: getattr(origin, name) for name in ("read_as", "engine", "precision", "device", "batch", "position")}
    return {name: value for name, value in (found | dict(told.get("versions", {}))).items() if value not in (None, [], {}, "")}


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else repr(value) if isinstance(value, str) else str(value)
