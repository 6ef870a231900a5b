"""What this machine can compute on, and in which precision."""

from __future__ import annotations

import os

import torch

from undiffuse.core.errors import DeviceError, explain

AUTO = "auto"
PRECISIONS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def available_devices() -> list[str]:
    """The kinds of device that torch can use here, the fastest first."""
    found = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    return [name for name, usable in found.items() if usable]


def choose_device(name: str | None = None) -> torch.device:
    """The device of this name ("cpu", "cuda", "cuda:1", "mps"); the fastest one for None or "auto".

    Raises:
        DeviceError: when there is no such device here.
    """
    names = available_devices()
    if name is None or name == AUTO:
        return torch.device(names[0])
    remedy = "leave the device out to have it chosen"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(explain(f"unknown device {name!r}", f"this machine has: {', '.join(names)}", remedy)) from None
    if device.type not in names:
        raise DeviceError(explain(f"no device {name!r} here", f"this machine has: {', '.join(names)}", remedy))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(explain(f"no device {name!r} here", f"there are {torch.cuda.device_count()} CUDA devices", remedy))
    return device


def choose_precision(device: torch.device, name: str | None = None) -> torch.dtype:
    """The precision of this name; for None or "auto" bf16 where the hardware computes in it, else float32.

    Raises:
        DeviceError: when the name is unknown, or the device cannot compute in that precision.
    """
    if name is None or name == AUTO:
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    if name not in PRECISIONS:
        raise DeviceError(explain(f"unknown precision {name!r}", f"allowed are auto, {', '.join(PRECISIONS)}"))
    if PRECISIONS[name] == torch.float16 and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
        raise DeviceError(explain("this CPU does not compute in fp16", "allowed are fp32 and bf16", "leave the precision out"))
    return PRECISIONS[name]


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than float32 here: the instructions exist, torch does not imitate them."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return has_instructions and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return False


def device_name(device: torch.device) -> str:
    """What the device is called in words: the GPU's product name, or the CPU's instruction set and threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    return f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def memory_gib(device: torch.device) -> float:
    """Total memory of the device in GiB; for mps and cpu, of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def short_dtype(dtype: torch.dtype) -> str:
    """The short name of a precision: "fp32", "bf16" or "fp16"."""
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def describe(device: torch.device | None = None, dtype: torch.dtype | None = None) -> str:
    """One line: device, what it is, its memory, and the precision; chosen automatically when not given."""
    device = device or choose_device()
    dtype = dtype or choose_precision(device)
    return f"{device} ({device_name(device)}, {memory_gib(device):.0f} GiB), {short_dtype(dtype)}"
