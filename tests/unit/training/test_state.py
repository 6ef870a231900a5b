"""Checkpoints appear whole or not at all, and only the last two stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from undiffuse.core.errors import CheckpointError
from undiffuse.training.ema import EMA
from undiffuse.training.optim import build_optimizer
from undiffuse.training.recipe import OptimizerSpec
from undiffuse.training.state import checkpoints, load_state, save_state

Parts = tuple[dict[str, nn.Module], dict[str, EMA], dict[str, torch.optim.Optimizer]]


def parts(width: int = 3) -> Parts:
    net = nn.Linear(width, 2)
    return {"net": net}, {"net": EMA(net, 0.9)}, {"net": build_optimizer(OptimizerSpec(), net)}


def learn(state: Parts) -> None:
    nets, averages, optimizers = state
    optimizers["net"].zero_grad()
    nets["net"](torch.ones(1, 3)).square().sum().backward()
    optimizers["net"].step()
    averages["net"].update()


def test_everything_comes_back(tmp_path: Path) -> None:
    saved, fresh = parts(), parts()
    learn(saved)
    save_state(tmp_path, 7, *saved)

    assert load_state(tmp_path, *fresh) == 7
    learn(saved)
    learn(fresh)
    for mine, theirs in zip(saved[0]["net"].parameters(), fresh[0]["net"].parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(saved[1]["net"].average["weight"], fresh[1]["net"].average["weight"])


def test_a_folder_without_checkpoints_starts_at_0(tmp_path: Path) -> None:
    assert load_state(tmp_path / "none", *parts()) == 0


def test_only_the_last_two_stay(tmp_path: Path) -> None:
    state = parts()
    for step in (2, 4, 6, 100):
        save_state(tmp_path, step, *state)

    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000006.pt", "step-00000100.pt"]


@pytest.mark.parametrize("where", ["write", "rename"])
def test_a_crash_while_writing_leaves_the_one_before(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = parts()
    save_state(tmp_path, 1, *state)
    whole = (tmp_path / "step-00000001.pt").read_bytes()

    def crash(*things: Any) -> None:
        if where == "write":
            things[1].write(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*((torch, "save", crash) if where == "write" else (Path, "replace", crash)))
        with pytest.raises(KeyboardInterrupt):
            save_state(tmp_path, 2, *state)

    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000001.pt"]
    assert (tmp_path / "step-00000001.pt").read_bytes() == whole
    assert load_state(tmp_path, *parts()) == 1
    save_state(tmp_path, 3, *state)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_damaged_checkpoint_is_told_with_the_remedy(tmp_path: Path) -> None:
    state = parts()
    save_state(tmp_path, 1, *state)
    path = save_state(tmp_path, 2, *state)
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(CheckpointError, match=r"step-00000002\.pt cannot be read.*delete it"):
        load_state(tmp_path, *parts())
    path.unlink()
    assert load_state(tmp_path, *parts()) == 1


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return eval, ("1 + 1",)

    torch.save({"step": Evil()}, tmp_path / "step-00000001.pt")

    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(tmp_path, *parts())


def test_another_net_is_refused_in_one_line(tmp_path: Path) -> None:
    save_state(tmp_path, 1, *parts())

    with pytest.raises(CheckpointError, match="does not fit this run's recipe") as caught:
        load_state(tmp_path, *parts(width=4))
    assert "\n" not in str(caught.value)
