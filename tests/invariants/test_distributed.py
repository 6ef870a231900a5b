"""Two processes learn what one does, up to the order of sums."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from undiffuse.training.metrics import read_log
from undiffuse.training.recipe import load_recipe
from undiffuse.training.run import train
from undiffuse.training.state import checkpoints

# Gradients are sums of the same terms in another order, which float32 rounds at about 1e-7. AdamW divides a gradient by
# its own size, so where one is itself no more than rounding, a weight moves by up to the rate either way. That happens to
# few weights; the mean deviation stays thousands of times below the way that weights go.
MEAN_TOLERANCE = 1e-7
MOST_TOLERANCE = 1e-3

# Threads of the process group that outlive it may abort the process as it ends, now and then.
PROGRAM = """
import sys
from pathlib import Path
from undiffuse.cli.main import run

code = run(sys.argv[1:])
threads = [name.read_text() for name in Path("/proc/self/task").glob("*/comm")]
sys.exit(f"left behind: {threads}" if any("gloo" in name for name in threads) else code)
"""


CRITIC = [f"objective.adversarial.{change}" for change in ("start=0", "ramp=1", "width=8", "layers=1")]


def test_two_processes_learn_what_one_does(autoencoder_recipe: Path, make_photos: Callable[..., Path], tmp_path: Path) -> None:
    data = [f"data.path={make_photos(5)}", "objective.crop=16", *CRITIC]
    changes = [*data, "optimizer.rate=1e-3", "run.steps=4", "run.log_every=2"]
    train(load_recipe(autoencoder_recipe, changes), tmp_path / "one")
    together(autoencoder_recipe, changes, tmp_path / "two")

    one, two = ([row for row in read_log(tmp_path / name)] for name in ("one", "two"))
    assert [row["step"] for row in one] == [row["step"] for row in two] == [2, 4]  # written once, by the first process
    names = [name for name in one[0] if name.endswith(("/loss", "/norm", "/l1", "/kl"))]
    assert [row[name] for row in two for name in names] == pytest.approx([row[name] for row in one for name in names], rel=1e-3)
    assert_close(tmp_path / "one", tmp_path / "two")


def together(recipe: Path, changes: list[str], out: Path) -> None:
    """Train in two processes, as `torchrun` starts them."""
    program = out.with_suffix(".py")
    program.write_text(PROGRAM)
    options = [word for change in changes for word in ("--set", change)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, str(program), "train", str(recipe), "--out", str(out), *options],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out / 'model'}\nnext: undiffuse train DIFFUSION_RECIPE --set objective.codec={out / 'model'}\n"


def assert_close(one: Path, other: Path) -> None:
    first, second = (torch.load(checkpoints(run / "checkpoints")[-1], weights_only=True)["nets"] for run in (one, other))
    pairs = [(first[net][name], second[net][name]) for net in first for name in first[net]]
    exported = [load_file(run / "model" / "autoencoder.safetensors") for run in (one, other)]
    pairs += [(exported[0][name], exported[1][name]) for name in exported[0]]
    deviations = torch.cat([(a - b).abs().flatten() for a, b in pairs])
    assert deviations.mean() < MEAN_TOLERANCE
    assert deviations.max() < MOST_TOLERANCE
