"""An interrupted build and an uninterrupted one give the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import Cancelled
from undiffuse.data.dataset import open_dataset
from undiffuse.data.latents import LatentCache, build_latents
from undiffuse.data.render import RenderSpec, render
from undiffuse.data.store import PictureStore


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for number in range(6):
        colours = np.random.default_rng(number).integers(0, 256, (24, 24, 4), dtype=np.uint8)
        Image.fromarray(colours).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}")
    return folder


def encode(pixels: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(pixels, 4)


@pytest.mark.parametrize("stop_at", [2, 4])
def test_latents_resume(tmp_path: Path, stop_at: int) -> None:
    store = PictureStore(open_dataset(pictures(tmp_path / "set")), 24, 10**6)
    spec = RenderSpec(size=16, flip=0.5)

    def stop(done: int, count: int, what: str) -> None:
        if done == stop_at:
            with (tmp_path / "stopped" / "captions.jsonl").open("a") as file:
                file.write('{"captions": ["half a li')
            raise Cancelled("stopped")

    def build(name: str, **options: object) -> LatentCache:
        make = lambda s, i, rng: render(s, i, spec, rng)  # noqa: E731
        return build_latents(store, make, encode, 2, 3, tmp_path / name, batch=2, **options)  # type: ignore[arg-type]

    with pytest.raises(Cancelled):
        build("stopped", progress=stop)
    build("stopped")
    build("whole")
    for name in ("latents.f16", "captions.jsonl", "manifest.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_store_changes_nothing(tmp_path: Path) -> None:
    dataset = open_dataset(pictures(tmp_path / "set"))
    store = PictureStore(dataset, 24, 3000)
    spec = RenderSpec(size=16, flip=0.5)
    for index in [*range(6), *range(6)]:
        direct = render(dataset, index, spec, np.random.default_rng(index))
        stored = render(store, index, spec, np.random.default_rng(index))
        assert torch.equal(direct.pixels, stored.pixels) and direct.caption == stored.caption
