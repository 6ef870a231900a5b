"""A run that was stopped, in whatever way, ends in the same bits as one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from undiffuse.cli.main import run as cli
from undiffuse.training.metrics import read_log
from undiffuse.training.recipe import Recipe, load_recipe
from undiffuse.training.run import resume, train
from undiffuse.training.state import checkpoints

Photos = Callable[..., Path]
CRITIC = ["objective.adversarial.start=1", "objective.adversarial.ramp=4", "objective.adversarial.width=8"]
FEW_LAYERS = ["objective.adversarial.layers=1", "objective.crop=16"]
# Never decayed, so that the recipe's number of steps decides nothing: the run ends when it is killed.
ENDLESS = ["optimizer.decay=none", "run.steps=1000000", "run.save_every=2", "run.log_every=3"]


class Eyes(nn.Module):
    """A tiny backbone in the place of EfficientNet-Lite0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 8, 3, stride=2)

    def features(self, x: Tensor) -> list[Tensor]:
        return [self.conv(x).relu()]


@pytest.fixture(autouse=True)
def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undiffuse.training.metrics._tensorboard", lambda folder, first: None)


def state_of(run: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint and of the exported model, by name."""
    found: dict[str, Tensor] = {}

    def gather(value: Any, name: str) -> None:
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                gather(inner, f"{name}/{key}")
        else:
            found[name] = torch.tensor(float(value)) if isinstance(value, int | float) else torch.tensor(0.0)

    newest = checkpoints(run / "checkpoints")[-1]
    gather(torch.load(newest, weights_only=True), newest.stem)
    for path in sorted((run / "model").glob("*.safetensors")):
        gather(load_file(path), path.stem)
    return found


def assert_same_bits(one: Path, other: Path) -> None:
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def numbers_of(run: Path) -> list[dict[str, float]]:
    clocks = ("time", "pictures_per_second")
    return [{name: value for name, value in row.items() if name not in clocks} for row in read_log(run)]


def stop_after(last: int) -> Callable[[int, int, dict[str, float]], None]:
    """A listener that ends the process, as far as the run can tell, in the middle of this step."""

    def listen(step: int, steps: int, values: dict[str, float]) -> None:
        if step == last:
            raise SystemExit

    return listen


@pytest.fixture
def stage_two(diffusion_recipe: Path, tiny_folder: Path) -> Callable[..., Recipe]:
    """The diffusion recipe with codec and text encoder of the tiny model, and classes."""

    def load(*changes: str) -> Recipe:
        parts = [f"objective.codec={tiny_folder}", f"conditioners.text.source={tiny_folder}", "conditioners.label.drop=0"]
        return load_recipe(diffusion_recipe, [*parts, *changes])

    return load


def check_resume(recipe: Recipe, folder: Path, killed_at: int) -> None:
    train(recipe, folder / "whole")
    with pytest.raises(SystemExit):
        train(recipe, folder / "parts", stop_after(killed_at))
    resume(folder / "parts")

    assert_same_bits(folder / "whole", folder / "parts")
    assert numbers_of(folder / "whole") == numbers_of(folder / "parts")


@pytest.mark.parametrize("killed_at", [3, 4])
@pytest.mark.parametrize("critic", [False, True])
def test_an_autoencoder_run_resumes_to_the_same_bits(
    critic: bool, killed_at: int, autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    changes = [
        f"data.path={make_photos(5)}",
        "data.render.flip=0.5",
        "run.preview_every=3",
        *(CRITIC + FEW_LAYERS if critic else []),
    ]

    check_resume(load_recipe(autoencoder_recipe, changes), tmp_path, killed_at)


def test_a_perceptual_term_changes_nothing_about_it(
    autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undiffuse.training.prepare.load_efficientnet", Eyes)
    changes = [f"data.path={make_photos(5)}", "objective.perceptual.weight=0.5", *CRITIC, *FEW_LAYERS]

    check_resume(load_recipe(autoencoder_recipe, changes), tmp_path, killed_at=3)
    assert all("autoencoder/perceptual" in row for row in read_log(tmp_path / "whole"))


@pytest.mark.parametrize("changes", [[], ["denoiser.dropout=0.3", "run.preview_every=5"]])
def test_a_diffusion_run_resumes_to_the_same_bits(
    changes: list[str], stage_two: Callable[..., Recipe], make_photos: Photos, tmp_path: Path
) -> None:
    recipe = stage_two(f"data.path={make_photos(6, 'folders')}", "objective.drop=0.3", *changes)

    check_resume(recipe, tmp_path, killed_at=5)


def test_a_fine_tune_resumes_to_the_same_bits(
    diffusion_recipe: Path, tiny_folder: Path, make_photos: Photos, tmp_path: Path
) -> None:
    changes = [f"data.path={make_photos(3)}", f"objective.start={tiny_folder}", "denoiser=", "conditioners="]

    check_resume(load_recipe(diffusion_recipe, changes), tmp_path, killed_at=3)


def test_a_crash_while_encoding_leaves_nothing_behind(
    stage_two: Callable[..., Recipe], make_photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = stage_two(f"data.path={make_photos(6, 'folders')}")
    train(recipe, tmp_path / "whole")

    def crash(done: int, total: int, what: str) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        train(recipe, tmp_path / "parts", progress=crash)
    resume(tmp_path / "parts")
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


def test_a_longer_run_is_the_same_run(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    """With a constant rate, taking more steps later is taking them at once."""
    changes = [f"data.path={make_photos(5)}", "optimizer.decay=none"]
    train(load_recipe(autoencoder_recipe, [*changes, "run.steps=7"]), tmp_path / "whole")
    train(load_recipe(autoencoder_recipe, [*changes, "run.steps=3"]), tmp_path / "parts")

    assert cli(["train", "--resume", str(tmp_path / "parts"), "--set", "run.steps=7"]) == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


@contextmanager
def command(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, stopped when the test is over."""
    code = "import sys; from undiffuse.cli.main import run; sys.exit(run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_step(process: subprocess.Popen[str]) -> None:
    """Read what the process says until it has taken its first steps, and saved: it logs every third, saves every second."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("step "):
            return
    raise AssertionError("".join(seen))


def check_that_it_goes_on(recipe: Path, changes: list[str], stopped: Path, whole: Path) -> None:
    """Two more steps bring the stopped run to where an uninterrupted one comes."""
    steps = int(checkpoints(stopped / "checkpoints")[-1].stem.removeprefix("step-")) + 2
    assert steps >= 4
    train(load_recipe(recipe, [*changes, f"run.steps={steps}"]), whole)

    assert cli(["train", "--resume", str(stopped), "--set", f"run.steps={steps}"]) == 0
    assert_same_bits(stopped, whole)


def as_options(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def test_kill_minus_9_in_the_middle(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    changes = [f"data.path={make_photos(5)}", *ENDLESS]
    with command("train", str(autoencoder_recipe), "--out", str(tmp_path / "run"), *as_options(changes)) as process:
        wait_for_step(process)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL

    check_that_it_goes_on(autoencoder_recipe, changes, tmp_path / "run", tmp_path / "whole")


def test_ctrl_c_in_the_middle(diffusion_recipe: Path, tiny_folder: Path, make_photos: Photos, tmp_path: Path) -> None:
    changes = [
        f"data.path={make_photos(5, 'texts')}",
        *ENDLESS,
        f"objective.codec={tiny_folder}",
        f"conditioners.text.source={tiny_folder}",
    ]
    with command("train", str(diffusion_recipe), "--out", str(tmp_path / "run"), *as_options(changes)) as process:
        wait_for_step(process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read().splitlines()
        assert process.wait(30) == 130

    saved = int(checkpoints(tmp_path / "run" / "checkpoints")[-1].stem.removeprefix("step-"))
    assert told[-1] == f"error: stopped after step {saved}; go on with: undiffuse train --resume {tmp_path / 'run'}"
    assert (tmp_path / "run" / "model" / "spec.json").is_file()
    check_that_it_goes_on(diffusion_recipe, changes, tmp_path / "run", tmp_path / "whole")
