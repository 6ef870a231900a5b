"""Tensors of one layer in a LoRA file ↔ its term: which ending of a name means which part of which kind of term."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undiffuse.networks.lora import Decomposed, Hadamard, Kronecker, LowRank, Term, Whole

# Parts of each kind of term, and the endings that kohya's and LyCORIS's files give them.
KOHYA: dict[type[Term], dict[str, str]] = {
    LowRank: {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight"},
    Hadamard: {
        "a1": "hada_w1_a",
        "b1": "hada_w1_b",
        "a2": "hada_w2_a",
        "b2": "hada_w2_b",
        "mid1": "hada_t1",
        "mid2": "hada_t2",
    },
    Kronecker: {
        "first": "lokr_w1",
        "second": "lokr_w2",
        "a1": "lokr_w1_a",
        "b1": "lokr_w1_b",
        "a2": "lokr_w2_a",
        "b2": "lokr_w2_b",
        "mid": "lokr_t2",
    },
    Whole: {"difference": "diff"},
}
ALPHA, MAGNITUDE = "alpha", "dora_scale"
ROWS = "lora_magnitude_vector"  # of PEFT: always the lengths of rows, in a shape of its own

ENDINGS = tuple(
    (re.compile(pattern + "$"), ending)
    for pattern, ending in (
        *((re.escape(f".{ending}"), ending) for parts in KOHYA.values() for ending in parts.values()),
        (r"\.lora_A(\.\w+)?\.weight", "lora_down.weight"),
        (r"\.lora_B(\.\w+)?\.weight", "lora_up.weight"),
        (r"(\.lora|_lora|\.lora_linear_layer)\.down\.weight", "lora_down.weight"),
        (r"(\.lora|_lora|\.lora_linear_layer)\.up\.weight", "lora_up.weight"),
        (r"\.alpha", ALPHA),
        (r"\.dora_scale", MAGNITUDE),
        (r"\.lora_magnitude_vector(\.\w+)*", ROWS),
    )
)
"""Endings of names in every kind of file, and the one of kohya's that means the same."""


class Key(NamedTuple):
    """The name of a tensor in two: its layer, as the file calls it, and the ending in kohya's spelling."""

    layer: str
    ending: str


def split(name: str) -> Key | None:
    """The name in two; None when it has none of the endings that we know."""
    for pattern, ending in ENDINGS:
        found = pattern.search(name)
        if found is not None:
            return Key(name[: found.start()], ending)
    return None


def term_of(tensors: Mapping[str, Tensor], alpha: float | None = None) -> Term | None:
    """The term of a layer out of its tensors by ending; None when some are missing, or some too many.

    Args:
        tensors: by the endings of kohya.
        alpha: what it is where the tensors do not tell.
    """
    kinds = [kind for kind, parts in KOHYA.items() if set(parts.values()) & set(tensors)]
    if len(kinds) != 1:
        return None
    kind = kinds[0]
    parts = {part: tensors[ending] for part, ending in KOHYA[kind].items() if ending in tensors}
    known = {*KOHYA[kind].values(), ALPHA, MAGNITUDE, ROWS}
    if not _complete(kind, set(parts)) or set(tensors) - known:
        return None
    told = float(tensors[ALPHA]) if ALPHA in tensors and tensors[ALPHA].numel() == 1 else alpha
    options: dict[str, Any] = {} if kind is Whole else {"alpha": told}
    term = kind(**{**parts, **options})
    if MAGNITUDE in tensors:
        return Decomposed(term, tensors[MAGNITUDE])
    if ROWS in tensors:
        down = tensors["lora_down.weight"]
        return Decomposed(term, tensors[ROWS].reshape(-1, *(1 for _ in down.shape[1:])))
    return term


def tensors_of(term: Term) -> dict[str, Tensor]:
    """The tensors of a term by the endings of kohya, alpha in the precision of the others."""
    if isinstance(term, Decomposed):
        return {**tensors_of(term.inner), MAGNITUDE: term.magnitude}
    found = {ending: part for name, ending in KOHYA[type(term)].items() if (part := getattr(term, name)) is not None}
    alpha = getattr(term, "alpha", None)
    if alpha is not None:
        exact = torch.tensor(alpha, dtype=next(iter(found.values())).dtype)
        found[ALPHA] = exact if float(exact) == alpha else torch.tensor(alpha)
    return found


def _complete(kind: type[Term], parts: set[str]) -> bool:
    if kind is Kronecker:
        return all(parts & {whole} or parts >= {f"a{i}", f"b{i}"} for i, whole in ((1, "first"), (2, "second")))
    needed = {LowRank: {"down", "up"}, Hadamard: {"a1", "b1", "a2", "b2"}, Whole: {"difference"}}
    return parts >= needed[kind]
