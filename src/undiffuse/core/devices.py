"""What this machine can compute on, and in which precision."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

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

# glibc's mallopt: (number of the option in malloc.h, value in bytes); values are C ints, so below 2 GiB.
KEEPING = {
    "M_MMAP_THRESHOLD": (-3, 2**30),  # buffers up to this size come from the heap, which can be reused
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),  # the heap's end goes back only when this much of it is free
    "M_TOP_PAD": (-2, 64 * 2**20),  # the heap grows in steps of this size
}
LARGEST_OLD_THRESHOLD = 32 * 2**20  # what glibc before 2.35 allows for M_MMAP_THRESHOLD


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


def free_bytes(device: torch.device) -> int:
    """Memory of the device that is free now; 0 where nobody can tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def short_dtype(dtype: torch.dtype) -> str:
    """The short name of a precision: "fp32", "bf16" or "fp16"."""
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def describe(device: torch.device | None = None, dtype: torch.dtype | None = None) -> str:
    """One line: device, what it is, its memory, and the precision; chosen automatically when not given."""
    device = device or choose_device()
    dtype = dtype or choose_precision(device)
    return f"{device} ({device_name(device)}, {memory_gib(device):.0f} GiB), {short_dtype(dtype)}"


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next tensor, for this whole process; returns whether it does now.

    By default glibc gives large buffers back to the kernel as soon as they are freed. A network frees and asks
    for such buffers in every layer, and each time the kernel clears the pages anew, which can take as long as the
    arithmetic. Afterwards the process holds on to the most memory that it ever used; nothing is allocated ahead
    but 64 MiB. Calling it again changes nothing.

    Nothing happens without glibc (macOS, Windows, musl), and where the user has set any MALLOC_ variable or
    glibc.malloc in GLIBC_TUNABLES: whoever tunes the allocator by hand is left alone.

    Source: mallopt(3).
    """
    by_hand = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    mallopt = None if by_hand else _of_glibc("mallopt")
    if mallopt is None:
        return False
    kept = {name: bool(mallopt(option, size)) for name, (option, size) in KEEPING.items()}
    if not kept["M_MMAP_THRESHOLD"]:
        kept["M_MMAP_THRESHOLD"] = bool(mallopt(KEEPING["M_MMAP_THRESHOLD"][0], LARGEST_OLD_THRESHOLD))
    return all(kept.values())


def give_back() -> None:
    """Give memory that nothing holds any more back to the system, whatever `keep_freed_memory` said; glibc only.

    Source: malloc_trim(3).
    """
    gc.collect()
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None where the C library is another one."""
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return None
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, ValueError, OSError):  # no confstr, no such name, no such library
        return None
