"""Tensors in safetensors files, plain or as weight-only int8 or int4, checked name by name when they are loaded.

int8: a matrix or kernel W (O, ...) is stored as integers q with one fp32 scale a row, W = q * scale; vectors
stay fp16. int4: rows are cut into groups of 64, each with an fp16 scale; two integers share a byte, the first in its low
half, and the shape is kept beside them. Nothing is computed in integers: weights are expanded when they are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from undiffuse.checkpoints.headers import SCALE, SCALES4, SHAPE4
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch, explain
from undiffuse.core.spec import pick

GROUP = 64
STORED = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.int8,
    "int4": torch.uint8,
    "kept": None,
}
SHOWN = 8
READABLE = 0o644
SMALLEST_SCALE = 1e-30


def save_tensors(tensors: Mapping[str, Tensor], path: Path, form: str = "fp32") -> None:
    """Write tensors in this form, "kept" for as they are; the file appears whole or not at all.

    Raises:
        SpecError: for an unknown form.
        CheckpointError: when a tensor holds numbers that the form cannot hold.
    """
    dtype = pick(STORED, form, "storage form")
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if dtype == torch.int8 and tensor.is_floating_point() and tensor.ndim > 1:
            stored[name], stored[name + SCALE] = quantize(tensor)
            _check_range(name, stored[name + SCALE], form)
        elif dtype == torch.uint8 and tensor.is_floating_point() and tensor.ndim > 1:
            stored[name], stored[name + SCALES4] = quantize4(tensor)
            stored[name + SHAPE4] = torch.tensor(tensor.shape)
            _check_range(name, stored[name + SCALES4], form)
        elif tensor.is_floating_point() and dtype is not None:
            stored[name] = tensor.to(dtype if dtype.is_floating_point else torch.float16).contiguous()
            _check_range(name, stored[name], form)
        else:
            stored[name] = tensor.contiguous()
    temporary = path.with_suffix(".tmp")
    save_file(stored, temporary, metadata={"format": "pt", "undiffuse": form})
    temporary.chmod(READABLE)  # safetensors makes files that only their owner can read
    temporary.replace(path)


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (O, ...) in [-127, 127] and one scale a row (O,), so that no weight is off by more than half of its scale."""
    rows = weight.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp_min(SMALLEST_SCALE)
    q = (rows / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
    return q.view(weight.shape).contiguous(), scale


def quantize4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Two integers from -7 to 7 in each byte (O, G * 32), raised by 8, and one scale a group (O, G), for rows of G groups."""
    rows = weight.float().flatten(1)
    groups = torch.nn.functional.pad(rows, (0, -rows.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    scales = (groups.abs().amax(2) / 7).half()
    q = (groups / scales.float().clamp_min(SMALLEST_SCALE)[..., None]).round().clamp(-7, 7).to(torch.int8) + 8
    low, high = q.to(torch.uint8).flatten(1).unflatten(1, (-1, 2)).unbind(2)
    return (low | (high << 4)).contiguous(), scales


def expand4(packed: Tensor, scales: Tensor, shape: Sequence[int]) -> Tensor:
    """The weight of this shape that `quantize4` packed, to half a scale."""
    q = torch.stack([packed & 15, packed >> 4], dim=2).flatten(1).float() - 8
    rows = (q.unflatten(1, (-1, GROUP)) * scales.float()[..., None]).flatten(1)
    numbers = math.prod(shape[1:])
    return rows[:, :numbers].reshape(*shape)


def round4(weight: Tensor) -> Tensor:
    """The weight as it is read back when it is stored as int4."""
    return expand4(*quantize4(weight), weight.shape)


def _check_range(name: str, stored: Tensor, form: str) -> None:
    if form != "fp32" and not stored.isfinite().all():
        given = f"{name} holds NaN, infinity or numbers beyond the range of {form}"
        raise CheckpointError(explain(given, "finite numbers are needed", "store it as fp32, or train again"))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, expanding int8 and int4 to float32.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    try:
        raw = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            explain(f"{path} cannot be read ({error})", "a safetensors file is needed", "fetch it anew")
        ) from None
    _expand_int4(raw, path)
    scales = {name.removesuffix(SCALE): raw.pop(name) for name in list(raw) if name.endswith(SCALE)}
    lonely = sorted({name for name, tensor in raw.items() if tensor.dtype == torch.int8} ^ set(scales))
    if lonely:
        given = f"{path} holds int8 weights without scales, or scales without weights: {_names(lonely)}"
        raise CheckpointError(explain(given, "each int8 tensor needs both", "write it again"))
    for name, scale in scales.items():
        raw[name] = raw[name].float() * scale.float().view(-1, *([1] * (raw[name].ndim - 1)))
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in raw.items()}


def _expand_int4(raw: dict[str, Tensor], path: Path) -> None:
    """Put weights in the place of packed ones with their scales and shapes."""
    for name in [name.removesuffix(SCALES4) for name in raw if name.endswith(SCALES4)]:
        try:
            scales, shape = raw.pop(name + SCALES4), raw.pop(name + SHAPE4).tolist()
            raw[name] = expand4(raw[name], scales, shape)
        except (KeyError, RuntimeError):
            given = f"{path} holds int4 scales without weights that fit: {name}"
            raise CheckpointError(explain(given, "each int4 tensor needs its scales and its shape", "write it again")) from None


def load_into(module: nn.Module, path: Path) -> None:
    """Give a module the tensors of a file; never in part.

    Raises:
        MissingKeys: when names are missing or left over, listing them.
        ShapeMismatch: when shapes differ, listing them.
        CheckpointError: when the file is missing or damaged.
    """
    tensors = load_tensors(path)
    wanted = module.state_dict()
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or extra:
        given = f"{path} lacks {_names(missing)} and has {_names(extra)} too many"
        raise MissingKeys(explain(given, "names must match the spec exactly", "use the spec.json that came with the file"))
    wrong = [
        f"{n} {tuple(tensors[n].shape)} for {tuple(wanted[n].shape)}" for n in wanted if tensors[n].shape != wanted[n].shape
    ]
    if wrong:
        given = f"{path} has other shapes: {_names(wrong)}"
        raise ShapeMismatch(explain(given, "shapes must match the spec", "use the spec.json that came with the file"))
    module.load_state_dict(tensors)


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN]) or "nothing"
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
