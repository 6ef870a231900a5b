"""Latent channels that change the picture little may be kept small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from undiffuse.core.random import normal
from undiffuse.training.importance import LEAST, channel_importance, kept_importance
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import load_recipe
from undiffuse.training.start import settle

WEIGHTS = torch.tensor([4.0, 1.0, 0.5])
DEVIATIONS = torch.tensor([1.0, 2.0, 1.0])


class Latents:
    """Forty latents of three channels with known deviations."""

    std = DEVIATIONS

    def __len__(self) -> int:
        return 40

    def latents(self, indices: list[int], variants: list[int]) -> Tensor:
        return normal((len(indices), 3, 8, 8), "test", *indices) * DEVIATIONS.view(1, 3, 1, 1)


def test_importance_is_what_a_deviation_of_the_channel_does_to_pixels() -> None:
    decoder = SimpleNamespace(decode=lambda z: (z * WEIGHTS.view(1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1))
    codec: Any = SimpleNamespace(channels=3, device=torch.device("cpu"), autoencoder=decoder)

    found = channel_importance(codec, Latents())  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx((WEIGHTS * DEVIATIONS / 4).tolist(), rel=0.1)
    assert found.max() == 1


def test_a_channel_that_changes_nothing_still_has_a_scale() -> None:
    decoder = SimpleNamespace(decode=lambda z: z[:, :1].expand(-1, 3, -1, -1))
    codec: Any = SimpleNamespace(channels=3, device=torch.device("cpu"), autoencoder=decoder)

    assert channel_importance(codec, Latents()).tolist() == pytest.approx([1, LEAST, LEAST])  # type: ignore[arg-type]


@pytest.mark.parametrize("importance", [0.0, 0.5, 1.0])
def test_deviations_follow_a_power_of_it(
    importance: float, diffusion_recipe: Path, tiny_folder: Path, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    changes = [f"data.path={make_photos(12)}", f"objective.codec={tiny_folder}", "conditioners=", "run.batch=16"]
    recipe = load_recipe(diffusion_recipe, [*changes, f"objective.importance={importance}"])
    objective = prepare(settle(recipe), tmp_path / "run", torch.device("cpu"))
    assert isinstance(objective, DiffusionTraining)

    z = torch.cat([objective.batch(step, range(16)).z for step in range(8)])
    wanted = channel_importance(objective.model.codec, objective.caches[0]) ** importance
    assert z.std((0, 2, 3)).tolist() == pytest.approx(wanted.tolist(), rel=0.15)


def test_a_run_that_goes_on_finds_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undiffuse.training.importance.channel_importance", lambda codec, cache: torch.tensor([1.0, 0.1]))
    first = kept_importance(None, None, tmp_path)  # type: ignore[arg-type]
    monkeypatch.setattr("undiffuse.training.importance.channel_importance", lambda codec, cache: torch.tensor([1.0, 0.2]))
    assert torch.equal(kept_importance(None, None, tmp_path), first)  # type: ignore[arg-type]
