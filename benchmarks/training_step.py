"""A step of the embedded model's U-Net: what do bf16 and compilation bring?

python benchmarks/training_step.py [--batch 96] [--repeats 8]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import undiffuse
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.devices import choose_device
from undiffuse.model.build import build_denoiser

LENGTH = 24


def seconds_a_step(spec, batch: int, repeats: int, dtype: torch.dtype, compiled: bool) -> float:
    """Median seconds of a forward, a backward and an AdamW update on random latents."""
    device = choose_device()
    net = build_denoiser(spec).network.to(device=device, memory_format=torch.channels_last)
    if compiled:
        net.compile()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    side, autoencoder = spec.size // spec.codec.autoencoder.factor, spec.codec.autoencoder
    x = torch.randn(batch, autoencoder.latent_channels, side, side, device=device).to(memory_format=torch.channels_last)
    cond = Conditioning(
        tokens=torch.randn(batch, LENGTH, spec.denoiser.context_width, device=device),
        token_mask=torch.ones(batch, LENGTH, dtype=torch.bool, device=device),
        vector=torch.randn(batch, spec.denoiser.vector_width, device=device),
    )
    t = torch.linspace(0, 1000, batch, device=device)
    taken = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = net(x, t, cond).float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        float(loss)  # waits for the device
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=8)
    options = parser.parse_args()
    spec = undiffuse.load_model().spec
    cases = {
        "fp32": (torch.float32, False),
        "bf16": (torch.bfloat16, False),
        "fp32, compiled": (torch.float32, True),
        "bf16, compiled": (torch.bfloat16, True),
    }
    baseline = 0.0
    print(f"{'batch ' + str(options.batch):20} {'pictures/s':>12} {'x fp32':>8}")
    for name, (dtype, compiled) in cases.items():
        torch.compiler.reset()
        rate = options.batch / seconds_a_step(spec, options.batch, options.repeats, dtype, compiled)
        baseline = baseline or rate
        print(f"{name:20} {rate:12.1f} {rate / baseline:8.2f}", flush=True)


if __name__ == "__main__":
    main()
