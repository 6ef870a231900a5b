"""A whole picture of Stable Diffusion 1.5 at 512x512: how much memory, with weights at rest, without, and in diffusers?

python benchmarks/peak_memory.py [--steps 2] [--side 512] [--precision fp32]

A file of the right shapes with random weights in float16 is made first (2 GB, in a temporary folder), and a folder of
diffusers with the same. Each case runs in a process of its own; what is told is the most that it ever held. Needs the
extra `dev`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

COMMAND = str(Path(sys.executable).with_name("undiffuse"))
LONG = {"fp32": "float32", "bf16": "bfloat16"}
THEIRS = """
import sys, torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1], torch_dtype=getattr(torch, sys.argv[4]))
side = int(sys.argv[3])
pipe("a fox", num_inference_steps=int(sys.argv[2]), height=side, width=side)
"""


def make_files(folder: Path) -> tuple[Path, Path]:
    """A single file and a folder of diffusers with the same random weights."""
    from undiffuse.checkpoints.diffusers_export import write_diffusers_folder
    from undiffuse.checkpoints.single_file import write_single_file
    from undiffuse.model.build import build_model
    from undiffuse.model.families import family

    model = build_model(family("sd1"))
    single, many = folder / "sd1.safetensors", folder / "sd1"
    write_single_file(model, single, torch.float16)
    write_diffusers_folder(model, many, torch.float16)
    return single, many


def peak(command: list[str]) -> tuple[float, float]:
    """GiB that a process held at most, and its seconds."""
    code = (
        "import resource, subprocess, sys; "
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True); "
        "sys.stderr.write(done.stderr if done.returncode else ''); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) / 2**20, time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--precision", choices=LONG, default="fp32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        maker = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; "
        maker += f"from peak_memory import make_files; make_files(Path({name!r}))"
        subprocess.run([sys.executable, "-c", maker], check=True)  # what it holds is not what later ones begin with
        single, many = Path(name) / "sd1.safetensors", Path(name) / "sd1"
        size = f"{options.side}x{options.side}"
        draw = [COMMAND, "generate", "a fox", "--model", str(single), "--steps", str(options.steps), "--seed", "1"]
        draw += ["--size", size, "--out", name, "--precision", options.precision]
        told = [str(many), str(options.steps), str(options.side), LONG[options.precision]]
        cases = {
            "diffusers": [sys.executable, "-W", "ignore", "-c", THEIRS, *told],
            "ours, plenty": [*draw, "--memory", "plenty"],
            "ours, low": [*draw, "--memory", "low"],
        }
        base = 0.0
        print(f"{f'{size}, {options.precision}':16} {'peak GiB':>9} {'/ diffusers':>12} {'seconds':>8}", flush=True)
        for case, command in cases.items():
            gib, seconds = peak(command)
            base = base or gib
            print(f"{case:16} {gib:9.2f} {gib / base:12.2f} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
