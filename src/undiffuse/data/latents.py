"""Pictures encoded once: a memory-mapped cache of latents, with their captions and their statistics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import numpy_stream
from undiffuse.data.atomic import write_text
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Example, Progress

Render = Callable[[Pictures, int, np.random.Generator], Example]
"""Makes a training example from picture `index`; bind a `RenderSpec` to `undiffuse.data.render.render`."""

Encode = Callable[[Tensor], Tensor]
"""Pixels (B, 3, H, W) in [-1, 1] -> latent means (B, C, h, w)."""

LATENTS, CAPTIONS, MANIFEST, PLAN = "latents.f16", "captions.jsonl", "manifest.json", "plan.json"
UNKNOWN = "one"  # the layout of what tells none
ROWS_AT_ONCE = 1024  # for the statistics


class LatentCache:
    """A finished cache: latents (N, variants, C, h, w) in float16 on disk, read as float32.

    `array` is the memory map. `mean` and `std` (C,) are over the whole set; `captions[i][v]` belongs to variant v of picture
    i, and `labels[i]` to picture i. `layouts[i][v]` is what `render` calls the layout of that variant, "one" where it is not
    known, and `partners[i][v]` the picture that is shown beside it or below, None where there is none.

    Raises:
        DataError: the folder holds no finished cache.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise DataError(explain(f"{folder} holds no finished latent cache", f"{MANIFEST} is missing", "build it again"))
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        self.identity: dict[str, Any] = manifest["identity"]
        self.shape: tuple[int, int, int] = tuple(manifest["shape"])
        self.variants: int = manifest["variants"]
        self.mean = torch.tensor(manifest["mean"], dtype=torch.float32)
        self.std = torch.tensor(manifest["std"], dtype=torch.float32)
        lines = (folder / CAPTIONS).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        self.captions: list[list[str]] = [row["captions"] for row in rows]
        self.labels: list[str | None] = [row["label"] for row in rows]
        self.layouts: list[list[str]] = [row.get("layouts") or [UNKNOWN] * self.variants for row in rows]
        self.partners: list[list[int | None]] = [row.get("partners") or [None] * self.variants for row in rows]
        self.array: np.ndarray = _open_latents(folder, (manifest["count"], self.variants, *self.shape), "r")

    def __len__(self) -> int:
        return len(self.captions)

    def latents(self, indices: Sequence[int], variants: Sequence[int]) -> Tensor:
        """Latents (B, C, h, w) in float32, as encoded: not scaled by `mean` and `std`."""
        return torch.from_numpy(self.array[list(indices), list(variants)].astype(np.float32))


def build_latents(
    pictures: Pictures,
    render: Render,
    encode: Encode,
    variants: int,
    seed: int,
    out: str | Path,
    progress: Progress | None = None,
    identity: Mapping[str, Any] | None = None,
    batch: int = 32,
) -> LatentCache:
    """Render and encode every picture `variants` times; a build that was stopped goes on where it was.

    Variant v of picture i is drawn from the stream ("latents", seed, i, v), so an interrupted build and an
    uninterrupted one give the same cache.

    Args:
        pictures: what to encode.
        render: makes an example from one picture.
        encode: the autoencoder's encoder.
        variants: how many renderings of each picture.
        seed: names the streams.
        out: the folder of the cache.
        progress: told (pictures done, pictures in all, what) after every batch.
        identity: what else the latents depend on, for instance a digest of the autoencoder and the render spec.
        batch: pictures between two savings.

    Raises:
        DataError: `out` holds a cache of something else, or the encoder gave values beyond float16.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    count = len(pictures.rows)
    plan = {"count": count, "variants": variants, "seed": seed, "identity": dict(identity or {})}
    done = _resume(out, plan)
    while done < count:
        stop = min(done + batch, count)
        examples = [_variants(pictures, render, index, variants, seed) for index in range(done, stop)]
        with torch.inference_mode():
            latents = encode(torch.stack([example.pixels for row in examples for example in row]))
        _save(out, plan, done, latents.reshape(stop - done, variants, *latents.shape[1:]), examples)
        done = stop
        if progress is not None:
            progress(done, count, "encoding")
    if not (out / MANIFEST).exists():
        _finish(out, plan)
    return LatentCache(out)


def _variants(pictures: Pictures, render: Render, index: int, variants: int, seed: int) -> list[Example]:
    return [render(pictures, index, numpy_stream("latents", seed, index, variant)) for variant in range(variants)]


def _resume(out: Path, plan: dict[str, Any]) -> int:
    """How many pictures are done; captions that were written after the last whole batch are dropped."""
    path = out / PLAN
    if not path.exists():
        write_text(out / CAPTIONS, "")
        write_text(path, json.dumps({**plan, "done": 0}))
        return 0
    found = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name, value in plan.items() if found.get(name) != value]
    if other:
        raise DataError(
            explain(
                f"{out} caches latents with another {', '.join(other)}",
                "a cache is of one kind",
                "choose another folder, or delete this one",
            )
        )
    if not (out / MANIFEST).exists():  # once it is there, several processes read the cache at once
        lines = (out / CAPTIONS).read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(out / CAPTIONS, "".join(lines[: found["done"]]))
    return found["done"]


def _save(out: Path, plan: dict[str, Any], start: int, latents: Tensor, examples: list[list[Example]]) -> None:
    """Write one batch; the plan last, since it says how much of the other two files counts."""
    shape = tuple(latents.shape[2:])
    stored = _open_latents(out, (plan["count"], plan["variants"], *shape), "r+" if (out / LATENTS).exists() else "w+")
    halves = latents.float().cpu().half()
    if not halves.isfinite().all():
        raise DataError(explain("the encoder gave latents beyond float16", "at most 65504 can be kept", "check the encoder"))
    stored[start : start + len(latents)] = halves.numpy()
    stored.flush()
    lines = [json.dumps(_told(row)) for row in examples]
    with (out / CAPTIONS).open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    write_text(out / PLAN, json.dumps({**plan, "done": start + len(latents), "shape": shape}))


def _told(variants: Sequence[Example]) -> dict[str, Any]:
    """What is kept in words of one picture."""
    return {
        "captions": [one.caption for one in variants],
        "label": variants[0].label,
        "layouts": [one.fields.get("layout", UNKNOWN) for one in variants],
        "partners": [one.fields.get("partner") for one in variants],
    }


def _finish(out: Path, plan: dict[str, Any]) -> None:
    shape = json.loads((out / PLAN).read_text(encoding="utf-8"))["shape"]
    latents = _open_latents(out, (plan["count"], plan["variants"], *shape), "r")
    mean, std = _statistics(latents)
    write_text(out / MANIFEST, json.dumps({**plan, "shape": shape, "mean": mean.tolist(), "std": std.tolist()}, indent=2))


def _statistics(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) of each channel, in float64, in two passes."""
    axes = (0, 1, 3, 4)
    parts = range(0, len(latents), ROWS_AT_ONCE)
    per_channel = latents.size / latents.shape[2]
    mean = sum(latents[i : i + ROWS_AT_ONCE].astype(np.float64).sum(axes) for i in parts) / per_channel
    centre = np.reshape(mean, (1, 1, -1, 1, 1))
    square = sum(((latents[i : i + ROWS_AT_ONCE].astype(np.float64) - centre) ** 2).sum(axes) for i in parts)
    return np.asarray(mean), np.sqrt(square / per_channel)


def _open_latents(folder: Path, shape: tuple[int, ...], mode: Any) -> np.memmap:
    return np.memmap(folder / LATENTS, dtype=np.float16, mode=mode, shape=shape)
