"""What was shown beside latents: kept in order, found again, gone on with after a stop, refused when of something else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.data.readings import MANIFEST, PLAN, Readings, build_readings
from undiffuse.data.records import Example, Row


class Five:
    """Five grey pictures; the third has nothing to show."""

    def __init__(self) -> None:
        self.rows = [Row(f"{index}", "") for index in range(5)]

    def read(self, index: int) -> Image.Image:
        return Image.new("RGB", (2, 2), (index, 0, 0))

    def read_map(self, index: int) -> None:
        return None


def render(pictures: Any, index: int, rng: np.random.Generator) -> Example:
    return Example(torch.full((3, 2, 2), float(index)), "", fields={"chance": float(rng.random()), "index": index})


def look(examples: Sequence[Example], rngs: Sequence[np.random.Generator]) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for example, rng in zip(examples, rngs, strict=True):
        number = {"number": torch.tensor([example.fields["index"], rng.random()]), "byte": np.full(3, 7, dtype=np.uint8)}
        shown.append({} if example.fields["index"] == 2 else number)
    return shown


def build(folder: Path, **changes: Any) -> Readings:
    return build_readings(Five(), render, look, 2, 0, folder, **changes)


def test_every_rendering_keeps_what_was_shown(tmp_path: Path) -> None:
    readings = build(tmp_path, batch=2)

    assert readings.row(2, 0) == {} == readings.row(2, 1)
    assert {index: readings.row(index, 1)["number"][0].item() for index in (0, 1, 3, 4)} == {0: 0, 1: 1, 3: 3, 4: 4}
    assert readings.row(3, 0)["byte"].tolist() == [7, 7, 7] and readings.row(3, 0)["byte"].dtype == torch.uint8
    assert readings.row(3, 0)["number"].dtype == torch.float16
    chances = {readings.row(index, variant)["number"][1].item() for index in (0, 1, 3, 4) for variant in (0, 1)}
    assert len(chances) == 8


def test_a_stopped_build_ends_in_the_same_bytes(tmp_path: Path) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = build(tmp_path / "whole", batch=2)

    def stop(done: int, total: int, what: str) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "stopped", batch=2, progress=stop)
    with pytest.raises(DataError, match="no finished readings"):
        Readings(tmp_path / "stopped")
    seen: list[int] = []
    again = build(tmp_path / "stopped", batch=2, progress=lambda done, total, what: seen.append(done))

    assert seen == [5]
    for index in range(5):
        for name, value in whole.row(index, 1).items():
            assert torch.equal(value, again.row(index, 1)[name])


def test_readings_of_something_else_are_refused(tmp_path: Path) -> None:
    build(tmp_path, identity={"conditioners": "maps"})
    with pytest.raises(DataError, match="another identity; a folder keeps one kind; choose another folder, or delete"):
        build(tmp_path, identity={"conditioners": "masks"})
    assert (tmp_path / PLAN).is_file()


def test_two_sizes_are_refused(tmp_path: Path) -> None:
    def uneven(examples: Sequence[Example], rngs: Sequence[np.random.Generator]) -> list[dict[str, Any]]:
        return [{"map": np.zeros(1 + example.fields["index"])} for example in examples]

    with pytest.raises(DataError, match=r"'map' of shape \[2\] beside \[1\]; all pictures must be shown in one size"):
        build_readings(Five(), render, uneven, 1, 0, tmp_path)


def test_what_a_stop_before_the_first_saving_left_behind_is_not_taken_for_readings(tmp_path: Path) -> None:
    def everything(examples: Sequence[Example], rngs: Sequence[np.random.Generator]) -> list[dict[str, Any]]:
        return [{"byte": np.full(9, 1, dtype=np.uint8)} for _ in examples]

    build_readings(Five(), render, everything, 2, 0, tmp_path)
    (tmp_path / PLAN).unlink()
    (tmp_path / MANIFEST).unlink()
    assert build(tmp_path).row(2, 0) == {}
