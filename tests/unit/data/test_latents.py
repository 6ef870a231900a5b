from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import Cancelled, DataError
from undiffuse.data.dataset import Pictures
from undiffuse.data.latents import LatentCache, build_latents
from undiffuse.data.records import Example, Row


class Seven:
    """Seven rows; the pictures are not looked at."""

    def __init__(self) -> None:
        self.rows = [Row(str(n), f"picture {n}", label=f"class {n % 2}") for n in range(7)]

    def read(self, index: int) -> Image.Image:
        raise AssertionError


def noisy(pictures: Pictures, index: int, rng: np.random.Generator) -> Example:
    row = pictures.rows[index]
    pixels = torch.from_numpy(rng.standard_normal((3, 8, 8), dtype=np.float32)) + index
    return Example(pixels, f"{row.caption} {rng.integers(100)}", row.label)


def shrink(pixels: Tensor) -> Tensor:
    assert not torch.is_grad_enabled()
    return torch.nn.functional.avg_pool2d(pixels, 4)[:, :2]


def build(out: Path, **changes: object) -> LatentCache:
    given = {"variants": 3, "seed": 5, "out": out, "batch": 2, **changes}
    return build_latents(Seven(), noisy, given.pop("encode", shrink), **given)  # type: ignore[arg-type]


def test_the_cache_holds_what_was_encoded(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    cache = build(tmp_path, progress=lambda done, count, what: steps.append((done, count)), identity={"codec": "abc"})
    assert (len(cache), cache.variants, cache.shape) == (7, 3, (2, 2, 2))
    assert steps == [(2, 7), (4, 7), (6, 7), (7, 7)]
    assert cache.labels[3] == "class 1" and len(cache.captions[6]) == 3 and len(set(cache.captions[6])) > 1
    everything = torch.stack([cache.latents([i] * 3, [0, 1, 2]) for i in range(7)])  # (N, variants, C, h, w)
    assert everything.dtype == torch.float32
    flat = everything.double().transpose(0, 2).reshape(2, -1)
    torch.testing.assert_close(cache.mean.double(), flat.mean(1))
    torch.testing.assert_close(cache.std.double(), flat.std(1, correction=0))
    assert LatentCache(tmp_path).identity == {"codec": "abc"}


def test_layouts_are_kept_and_one_thing_is_taken_for_granted(tmp_path: Path) -> None:
    def paired(pictures: Pictures, index: int, rng: np.random.Generator) -> Example:
        example = noisy(pictures, index, rng)
        return replace(example, fields={"layout": "left-right", "partner": 5} if index == 2 else {})

    cache = build_latents(Seven(), paired, shrink, 2, 5, tmp_path)
    assert cache.layouts[2] == ["left-right"] * 2 and cache.layouts[3] == ["one"] * 2
    assert cache.partners[2] == [5, 5] and cache.partners[3] == [None, None]

    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    older = [json.dumps({name: row[name] for name in ("captions", "label")}) for row in lines]
    (tmp_path / "captions.jsonl").write_text("\n".join(older) + "\n")
    assert LatentCache(tmp_path).layouts == [["one"] * 2] * 7
    assert LatentCache(tmp_path).partners == [[None] * 2] * 7


def test_batch_size_does_not_matter(tmp_path: Path) -> None:
    one, two = build(tmp_path / "a", batch=7), build(tmp_path / "b", batch=3)
    assert one.captions == two.captions
    assert (tmp_path / "a" / "latents.f16").read_bytes() == (tmp_path / "b" / "latents.f16").read_bytes()


def test_a_cache_of_something_else_is_refused(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(DataError, match=r"another seed, identity.*choose another folder"):
        build(tmp_path, seed=6, identity={"codec": "new"})


def test_an_unfinished_cache_does_not_open(tmp_path: Path) -> None:
    def stop(done: int, count: int, what: str) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        build(tmp_path, progress=stop)
    with pytest.raises(DataError, match="no finished latent cache"):
        LatentCache(tmp_path)


def test_latents_beyond_float16_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="beyond float16"):
        build(tmp_path, encode=lambda pixels: shrink(pixels) * 1e6)
