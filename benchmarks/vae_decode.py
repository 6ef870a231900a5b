"""Decoding a latent of Stable Diffusion: how long and with how much memory, against diffusers?

python benchmarks/vae_decode.py [--side 64] [--repeats 3] [--precision fp32 bf16]

Random weights. Each case runs in a process of its own, so that its peak memory is its own; "seconds" is processor
time by the number of threads, which other work disturbs less than the clock. Needs the extra `dev`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
THEIRS = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}


def ours(dtype: torch.dtype, z: Tensor) -> Callable[[], Tensor]:
    """Our codec, as `Generator` sets it up."""
    from undiffuse.core.devices import keep_freed_memory
    from undiffuse.model.build import build_codec
    from undiffuse.model.families import family

    codec = build_codec(family("sd1").codec).eval().requires_grad_(False)
    codec.autoencoder.to(dtype)
    keep_freed_memory()
    return lambda: codec.decode(z)


def diffusers(dtype: torch.dtype, z: Tensor) -> Callable[[], Tensor]:
    """AutoencoderKL with channels_last, its quickest form on a CPU."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(**THEIRS).eval().requires_grad_(False)
    vae = vae.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda: vae.decode(z.to(dtype)).sample


CASES = {"diffusers": diffusers, "ours": ours}


def measure(case: str, precision: str, side: int, repeats: int) -> None:
    """Print what one case takes, as JSON."""
    torch.manual_seed(0)
    with torch.no_grad():
        decode = CASES[case](DTYPES[precision], torch.randn(1, 4, side, side))
        taken = []
        for _ in range(repeats):
            start = time.process_time()
            decode()
            taken.append((time.process_time() - start) / torch.get_num_threads())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": min(taken), "gib": peak}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="of the latent; 64 gives 512x512 pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", nargs="+", choices=DTYPES, default=["fp32"])
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        measure(options.case, options.precision[0], options.side, options.repeats)
        return
    print(f"{'':22} {'seconds':>8} {'peak GiB':>9} {'time':>6} {'memory':>7}")
    for precision in options.precision:
        base: dict[str, float] = {}
        for case in CASES:
            command = [sys.executable, "-W", "ignore", __file__, "--case", case, "--precision", precision]
            command += ["--side", str(options.side), "--repeats", str(options.repeats)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            base = base or found
            ratios = [found[key] / base[key] for key in ("seconds", "gib")]
            print(f"{case + ', ' + precision:22} {found['seconds']:8.2f} {found['gib']:9.2f} {ratios[0]:6.2f} {ratios[1]:7.2f}")


if __name__ == "__main__":
    main()
