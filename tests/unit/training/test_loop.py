"""The loop: what a run leaves behind, what it says, what stops it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from undiffuse.core.errors import Cancelled, Diverged, UsageError
from undiffuse.training.distributed import Workers
from undiffuse.training.loop import Trainer
from undiffuse.training.metrics import read_log
from undiffuse.training.objectives.base import Objective
from undiffuse.training.recipe import Recipe
from undiffuse.training.state import checkpoints


class Line(Objective[Tensor]):
    """Learns y = 2 x; `spoil` may change a step's loss."""

    def __init__(self, spoil: Callable[[Tensor, int], Tensor] = lambda loss, step: loss, dropout: float = 0.0) -> None:
        self.net = nn.Sequential(nn.Linear(1, 1), nn.Dropout(dropout))
        nn.init.zeros_(self.net[0].weight)
        nn.init.zeros_(self.net[0].bias)
        self.players = {"line": self.net}
        self.spoil = spoil
        self.learned: list[bool] = []

    def batch(self, step: int, slots: range) -> Tensor:
        return torch.tensor([[float(slot + step % 3)] for slot in slots])

    def loss(self, player: str, batch: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.learned.append(self.net.training and all(p.requires_grad for p in self.net.parameters()))
        loss = self.spoil((self.net(batch) - 2 * batch).square().mean(), step)
        return loss, {"loss": loss}

    def preview(self, step: int) -> Image.Image:
        assert not self.net.training
        self.net.requires_grad_(False)  # as drawing does
        return Image.new("RGB", (4, 4))

    def export(self, folder: Path) -> None:
        folder.mkdir()
        torch.save(self.net.state_dict(), folder / "line.pt")


def recipe(**run: Any) -> Recipe:
    settings = {"steps": 6, "batch": 2, "save_every": 4, "log_every": 3, "preview_every": 0, **run}
    optimizer = {"rate": 0.1, "warmup": 0, "ema": 0.5}
    terms = {"kind": "autoencoder"}
    return Recipe.parse({"name": "line", "data": {"path": ""}, "run": settings, "optimizer": optimizer, "objective": terms})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def run(folder: Path, objective: Line | None = None, **options: Any) -> Line:
    objective = objective or Line()
    listen, progress = options.pop("listen", None), options.pop("progress", None)
    trainer = Trainer(recipe(**options), objective, folder, Workers(), torch.float32)
    trainer.run(trainer.resume(), listen, progress)
    return objective


def test_logs_and_checkpoints_come_when_they_are_due_and_at_the_end(folder: Path) -> None:
    heard: list[int] = []
    moved: list[tuple[int, int, str]] = []
    run(folder, steps=8, listen=lambda step, steps, values: heard.append(step), progress=lambda *news: moved.append(news))

    assert [row["step"] for row in read_log(folder)] == heard == [3, 6, 8]
    assert [path.stem for path in checkpoints(folder / "checkpoints")] == ["step-00000004", "step-00000008"]
    assert moved == [(step, 8, "training") for step in range(1, 9)]


def test_the_model_holds_the_averaged_weights(folder: Path) -> None:
    line = run(folder)
    exported = torch.load(folder / "model" / "line.pt", weights_only=True)
    average = torch.load(checkpoints(folder / "checkpoints")[-1], weights_only=True)["averages"]["line"]["average"]

    assert torch.equal(exported["0.weight"], average["0.weight"])
    assert not torch.equal(exported["0.weight"], line.net[0].weight)


def test_drawing_a_preview_leaves_the_learning_as_it_was(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with_previews, without = run(folder, preview_every=2), run(tmp_path_factory.mktemp("other"))

    assert all(with_previews.learned)
    assert torch.equal(with_previews.net[0].weight, without.net[0].weight)
    assert len(list((folder / "previews").iterdir())) == 3


def test_dropout_falls_alike_in_a_run_that_was_stopped(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = run(folder, Line(dropout=0.5), steps=8)

    def stop(step: int, steps: int, values: dict[str, float]) -> None:
        if step == 6:
            raise RuntimeError("power cut")

    other = tmp_path_factory.mktemp("other")
    with pytest.raises(RuntimeError, match="power cut"):
        run(other, Line(dropout=0.5), steps=8, listen=stop)
    torch.manual_seed(99)
    assert torch.equal(run(other, Line(dropout=0.5), steps=8).net[0].weight, whole.net[0].weight)


def test_the_global_generator_is_left_alone(folder: Path) -> None:
    line = Line()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(folder, line)

    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("save_every", "log_every"), [(2, 100), (100, 2)])
def test_a_loss_that_is_no_number_stops_the_run_and_is_never_saved(folder: Path, save_every: int, log_every: int) -> None:
    bad = Line(lambda loss, step: loss * float("nan") if step >= 3 else loss)

    with pytest.raises(Diverged, match=r"is not finite at step 4;.*lower optimizer\.rate"):
        run(folder, bad, save_every=save_every, log_every=log_every)
    for path in checkpoints(folder / "checkpoints"):
        assert torch.load(path, weights_only=True)["nets"]["line"]["0.weight"].isfinite().all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_says_how_to_go_on(folder: Path, number: int) -> None:
    def signalling(loss: Tensor, step: int) -> Tensor:
        if step == 2:
            os.kill(os.getpid(), number)
        return loss

    before = signal.getsignal(number)
    with pytest.raises(Cancelled, match=rf"stopped after step 3; go on with: undiffuse train --resume {folder}"):
        run(folder, Line(signalling))
    assert signal.getsignal(number) is before
    assert [path.stem for path in checkpoints(folder / "checkpoints")] == ["step-00000003"]
    (folder / "whole").mkdir()
    assert torch.equal(run(folder).net[0].weight, run(folder / "whole").net[0].weight)


def test_a_second_ctrl_c_does_not_wait(folder: Path) -> None:
    def impatient(loss: Tensor, step: int) -> Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return loss

    with pytest.raises(KeyboardInterrupt):
        run(folder, Line(impatient))
    assert not checkpoints(folder / "checkpoints")


def test_a_finished_run_takes_no_step_and_mends_a_lost_model(folder: Path) -> None:
    run(folder)
    model = (folder / "model" / "line.pt").read_bytes()
    (folder / "model" / "line.pt").unlink()

    assert run(folder).learned == []
    assert (folder / "model" / "line.pt").read_bytes() == model


def test_more_steps_go_on_and_fewer_are_refused(folder: Path) -> None:
    run(folder)

    assert len(run(folder, steps=10).learned) == 4
    with pytest.raises(UsageError, match=r"has taken 10 steps, run\.steps = 7.*--set run\.steps="):
        run(folder, steps=7)


def test_what_a_crash_left_of_a_model_is_cleared_away(folder: Path) -> None:
    for left in ("model.new", "model.old"):
        (folder / left).mkdir()
        (folder / left / "half").write_text("")
    run(folder)

    assert [path.name for path in folder.glob("model*")] == ["model"]
    assert [path.name for path in (folder / "model").iterdir()] == ["line.pt"]
