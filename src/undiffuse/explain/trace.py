"""`Trace`: a drawing as it was recorded, step by step, and the one file that holds it.

The file is safetensors; its metadata holds one JSON text under "undiffuse_trace".

| tensor          | shape              | what                                                              |
|-----------------|--------------------|-------------------------------------------------------------------|
| `levels`        | (S, 3) float64     | t, alpha, sigma that a step began at                              |
| `x`             | (S, C, h, w)       | what it began with                                                |
| `conditional`   | (S, C, h, w)       | the clean estimate with everything that was said                  |
| `unconditional` | (S, C, h, w)       | the one that guidance steers away from; NaN where none was asked  |
| `x0`            | (S, C, h, w)       | the estimate that the step went by                                |
| `work`          | (S, 2) float64     | seconds in the network, calls of it                               |
| `attention.*`   | (S, T + 1, r, c)   | shares of T tokens, and of all others, by layer, mean over heads  |
| `picture`       | (H, W, 3) uint8    | the finished picture                                              |
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from undiffuse.conditioners.base import Word
from undiffuse.core.errors import DataError, UsageError, explain
from undiffuse.diffusion.level import Level
from undiffuse.explain.recorder import Moment

KEY = "undiffuse_trace"
FORMAT = "undiffuse-trace/1"
ATTENTION = "attention."
ALWAYS = ("levels", "x", "conditional", "x0", "work", "picture")
READABLE = 0o644


@dataclass(frozen=True, eq=False)
class Trace:
    """A recorded drawing of S steps.

    `told` is what its PNG tells: request, origin and versions. `words` are those whose attention is kept; their places
    count the T maps of `attention`, whose last map is that of all other tokens. `paths` names its layers in the net's order.
    """

    told: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    words: Sequence[Word] = ()
    paths: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.tensors["levels"])

    def level(self, step: int) -> Level:
        """The level that a step began at."""
        return Level(*self.tensors["levels"][step].tolist())

    @property
    def picture(self) -> Image.Image:
        """The finished picture."""
        return Image.fromarray(self.tensors["picture"].numpy())

    @property
    def layers(self) -> dict[str, Tensor]:
        """Attention (S, T + 1, r, c) by layer, in the order of the net."""
        return {path: self.tensors[f"{ATTENTION}{path}"] for path in self.paths}

    def of_words(self, layer: Tensor) -> Tensor:
        """Attention (S, T + 1, r, c) as the share of each word (S, W, r, c): that of all its tokens together."""
        if not self.words:
            return layer[:, :0]
        return torch.stack([layer[:, list(word.places)].sum(1) for word in self.words], dim=1)

    def numbers(self) -> list[dict[str, float | int | None]]:
        """Every step in numbers: level, root mean square of x and of the estimates, of what guidance adds, seconds, calls."""
        return [self._row(step) for step in range(len(self))]

    def _row(self, step: int) -> dict[str, float | int | None]:
        level, tensors = self.level(step), self.tensors
        seconds, calls = tensors["work"][step].tolist()
        less = tensors["unconditional"][step] if "unconditional" in tensors else None
        less = None if less is None or less.isnan().any() else less
        return {
            "step": step,
            "t": float(level.t),
            "alpha": float(level.alpha),
            "sigma": float(level.sigma),
            "snr": float(level.snr) if level.sigma else None,
            "x": rms(tensors["x"][step]),
            "conditional": rms(tensors["conditional"][step]),
            "unconditional": None if less is None else rms(less),
            "difference": None if less is None else rms(tensors["conditional"][step] - less),
            "x0": rms(tensors["x0"][step]),
            "seconds": seconds,
            "calls": int(calls),
        }


def rms(value: Tensor) -> float:
    """Root mean square: the norm of a tensor, whatever its size."""
    return float(value.double().square().mean().sqrt())


def gathered(moments: Sequence[Moment], picture: Image.Image, told: Mapping[str, Any], words: Sequence[Word]) -> Trace:
    """The trace of recorded steps; places of `words` count maps of attention."""
    levels = [[float(m.level.t), float(m.level.alpha), float(m.level.sigma)] for m in moments]
    tensors = {
        "levels": torch.tensor(levels, dtype=torch.float64),
        "x": torch.stack([m.x for m in moments]),
        "conditional": torch.stack([m.conditional for m in moments]),
        "x0": torch.stack([m.conditional if m.x0 is None else m.x0 for m in moments]),
        "work": torch.tensor([[m.seconds, m.calls] for m in moments], dtype=torch.float64),
        "picture": torch.from_numpy(np.array(picture.convert("RGB"))),
    }
    if any(m.unconditional is not None for m in moments):
        missing = torch.full_like(moments[0].x, float("nan"))
        tensors["unconditional"] = torch.stack([missing if m.unconditional is None else m.unconditional for m in moments])
    layers = list(moments[0].attention)
    tensors |= {f"{ATTENTION}{layer}": torch.stack([m.attention[layer] for m in moments]) for layer in layers}
    return Trace(told, tensors, tuple(words), tuple(layers))


def write_trace(trace: Trace, path: str | Path) -> Path:
    """Write the file, whole or not at all. Only another trace is ever overwritten.

    Raises:
        UsageError: when the name belongs to another kind of file, or its folder cannot be written into.
    """
    path = check_place(path)
    text = json.dumps({"format": FORMAT, "told": trace.told, "words": trace.words, "layers": trace.paths})
    partial = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        save_file({name: value.contiguous() for name, value in trace.tensors.items()}, partial, metadata={KEY: text})
        partial.chmod(READABLE)  # safetensors makes files that only their owner can read
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        given = f"cannot write {path} ({getattr(error, 'strerror', None) or error})"
        raise UsageError(explain(given, "a file in a folder that is there and can be written into is needed")) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def check_place(path: str | Path) -> Path:
    """The path of a trace to be written, checked before anybody draws for hours.

    Raises:
        UsageError: when the name belongs to another kind of file, or its folder is not there.
    """
    path = Path(path)
    if path.exists() and not is_trace(path):
        raise UsageError(explain(f"{path} is there and no trace", "only traces are overwritten", "name another file"))
    if not path.parent.is_dir():
        raise UsageError(explain(f"there is no folder {path.parent}", "one that is there is needed", "make it"))
    return path


def read_trace(path: str | Path) -> Trace:
    """Read what `write_trace` wrote.

    Raises:
        DataError: when the file is not there, no trace, or damaged.
    """
    path = Path(path)
    needed = "a file that 'undiffuse trace' wrote is needed"
    if not path.is_file():
        raise DataError(explain(f"{path} is not there", needed, "check the path"))
    try:
        with safe_open(path, "pt") as file:
            held = json.loads((file.metadata() or {})[KEY])
            form, told, paths = held["format"], dict(held["told"]), tuple(held["layers"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        words = tuple(Word(text, tuple(places)) for text, places in held["words"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        raise DataError(explain(f"{path} is no trace", needed)) from None
    if form != FORMAT:
        raise DataError(explain(f"{path} is of format {form!r}", f"this version reads {FORMAT}", "update undiffuse"))
    absent = [name for name in (*ALWAYS, *(f"{ATTENTION}{layer}" for layer in paths)) if name not in tensors]
    if absent:
        raise DataError(explain(f"{path} lacks {', '.join(absent)}", needed, "record it again"))
    return Trace(told, tensors, words, paths)


def is_trace(path: Path) -> bool:
    """Whether this file is one that `write_trace` wrote."""
    try:
        read_trace(path)
    except DataError:
        return False
    return True
