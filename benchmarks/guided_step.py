"""A guided step of Stable Diffusion 1.5 at 512x512: how long, against diffusers and against OpenVINO's own graph of it?

python benchmarks/guided_step.py [--side 64] [--rounds 3] [--precision fp32] [--case ...]

The U-Net at batch 2 with 77 tokens; random weights, for the numbers do not matter. Each case of each round runs in a
process of its own, and rounds go through all cases in turn; "seconds" is the least of all rounds, processor time by the
number of threads, which other work disturbs less than the clock. On a GPU it is the clock. Needs the extra `dev`, and
`openvino` for the graphs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Step = Callable[[], object]


def inputs(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A latent and its double, times, and the words of both rows."""
    torch.manual_seed(0)
    return torch.randn(1, 4, side, side).repeat(2, 1, 1, 1), torch.tensor([501.0, 501.0]), torch.randn(2, 77, 768)


def our_network(device: str, dtype: torch.dtype) -> nn.Module:
    """Our U-Net of SD 1.x with fresh weights."""
    from undiffuse.model.build import build_denoiser
    from undiffuse.model.families import family

    return build_denoiser(family("sd1")).network.eval().requires_grad_(False).to(device, dtype)


def their_network(device: str, dtype: torch.dtype) -> nn.Module:
    """The same of diffusers, in its usual attention for this torch."""
    from diffusers import UNet2DConditionModel

    net = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    return net.eval().requires_grad_(False).to(device, dtype)  # type: ignore[call-overload]


def ours(side: int, device: str, dtype: torch.dtype) -> Step:
    """As `Generator` sets it up."""
    from undiffuse.core.conditioning import Conditioning
    from undiffuse.core.devices import keep_freed_memory
    from undiffuse.generation.engines.table import arrange

    keep_freed_memory()
    net = our_network(device, dtype)
    arrange(net, dtype)
    x, t, words = (one.to(device) for one in inputs(side))
    cond = Conditioning(tokens=words.to(dtype))
    return lambda: net(x.to(dtype), t, cond)


def diffusers(side: int, device: str, dtype: torch.dtype) -> Step:
    """Its U-Net, called as its pipeline calls it."""
    net = their_network(device, dtype)
    x, t, words = (one.to(device) for one in inputs(side))
    return lambda: net(x.to(dtype), t[0], words.to(dtype), return_dict=False)


def compiled(make: Callable[[int, str, torch.dtype], Step]) -> Callable[[int, str, torch.dtype], Step]:
    """The same with its nets compiled by torch."""

    def step(side: int, device: str, dtype: torch.dtype) -> Step:
        return torch.compile(make(side, device, dtype), mode="reduce-overhead")

    return step


def our_graph(side: int, device: str, dtype: torch.dtype) -> Step:
    """`--engine openvino`."""
    from undiffuse.core.conditioning import Conditioning
    from undiffuse.generation.engines.openvino_graphs import GraphNetwork, Graphs

    net = GraphNetwork(our_network("cpu", torch.float32), Graphs(None, "", dtype))
    x, t, words = inputs(side)
    return lambda: net(x, t, Conditioning(tokens=words))


def their_graph(side: int, device: str, dtype: torch.dtype) -> Step:
    """OpenVINO's translation of diffusers' U-Net, with the same shapes and options."""
    from undiffuse.generation.engines.openvino_graphs import Graphs

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = their_network("cpu", torch.float32)

        def forward(self, x: Tensor, t: Tensor, words: Tensor) -> Tensor:
            return self.net(x, t, words, return_dict=False)[0]

    net, graphs = Plain(), Graphs(None, "", dtype)
    return lambda: graphs.run("theirs", net, inputs(side))


CASES: dict[str, Callable[[int, str, torch.dtype], Step]] = {
    "diffusers": diffusers,
    "ours": ours,
    "diffusers, OpenVINO": their_graph,
    "ours, OpenVINO": our_graph,
    "diffusers, compiled": compiled(diffusers),
    "ours, compiled": compiled(ours),
}
ON_CPU = ["diffusers", "ours", "diffusers, OpenVINO", "ours, OpenVINO"]
ON_GPU = ["diffusers", "ours", "diffusers, compiled", "ours, compiled"]


def measure(case: str, side: int, device: str, precision: str, repeats: int) -> None:
    """Print the least seconds of a case, as JSON, after a first step that warms up."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    threads = torch.get_num_threads() if device == "cpu" else 1
    with torch.no_grad():
        step = CASES[case](side, device, DTYPES[precision])
        taken = []
        for _ in range(repeats + 1):
            start = clock()
            step()
            if device != "cpu":
                torch.cuda.synchronize()
            taken.append((clock() - start) / threads)
    print(json.dumps(min(taken[1:])))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="of the latent; 64 is 512x512 pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="steps a round, of which the quickest counts")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=DTYPES, default="fp32")
    parser.add_argument("--case", nargs="+", choices=CASES)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = options.case or (ON_CPU if options.device == "cpu" else ON_GPU)
    if options.inside:
        measure(cases[0], options.side, options.device, options.precision, options.repeats)
        return
    told = ["--side", str(options.side), "--device", options.device, "--precision", options.precision]
    told += ["--repeats", str(options.repeats), "--inside"]
    least = dict.fromkeys(cases, float("inf"))
    for _ in range(options.rounds):
        for case in cases:
            command = [sys.executable, "-W", "ignore", __file__, *told, "--case", case]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            least[case] = min(least[case], json.loads(found))
    print(
        f"{f'{options.side * 8} squared, {options.precision}':24} {'seconds':>8} " + " ".join(f"/ {case:<20}" for case in cases)
    )
    for case, seconds in least.items():
        print(f"{case:24} {seconds:8.3f} " + " ".join(f"{seconds / other:<22.2f}" for other in least.values()))


if __name__ == "__main__":
    main()
