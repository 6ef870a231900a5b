"""What was shown of pictures beside their latents (masks, maps, small pictures, ...), kept in the same order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import numpy_stream
from undiffuse.data.atomic import write_text
from undiffuse.data.dataset import Pictures
from undiffuse.data.latents import Render
from undiffuse.data.records import Example, Progress

Look = Callable[[Sequence[Example], Sequence[np.random.Generator]], list[dict[str, Any]]]
"""Arrays by name for each example, of one shape and type a name; a name is left out where there is nothing."""

MANIFEST, PLAN = "readings.json", "readings-plan.json"
THERE, SUFFIX = "there", ".shown"


class Readings:
    """Arrays by name of every rendering of every picture: memory maps (N, variants, ...), and where they count (N, variants).

    Raises:
        DataError: the folder holds no finished readings.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise DataError(explain(f"{folder} holds no finished readings", f"{MANIFEST} is missing", "build them again"))
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        place = (manifest["count"], manifest["variants"])
        self.arrays = {name: _open(folder, name, kind, place, "r") for name, kind in manifest["arrays"].items()}
        self.there = {name: _open(folder, f"{name}.{THERE}", _FLAG, place, "r") for name in manifest["arrays"]}

    def row(self, index: int, variant: int) -> dict[str, torch.Tensor]:
        """What was shown of this rendering of picture `index`."""
        return {
            name: torch.from_numpy(np.array(array[index, variant]))
            for name, array in self.arrays.items()
            if self.there[name][index, variant]
        }


def build_readings(
    pictures: Pictures,
    render: Render,
    look: Look,
    variants: int,
    seed: int,
    out: str | Path,
    progress: Progress | None = None,
    identity: Mapping[str, Any] | None = None,
    batch: int = 32,
) -> Readings:
    """Render every picture as `build_latents` does and keep what is shown of each; a stopped build goes on.

    Args:
        pictures, render, variants, seed: as for the latents, so that the same examples come out.
        look: what is kept; the chance in it comes from the stream ("shown", seed, picture, variant).
        out: the folder of the latents.
        progress: told (pictures done, pictures in all, what) after every batch.
        identity: what else the readings depend on.
        batch: pictures between two savings.

    Raises:
        DataError: `out` holds readings of something else, or two readings of one name differ in shape.
    """
    out, count = Path(out), len(pictures.rows)
    plan = {"count": count, "variants": variants, "seed": seed, "identity": dict(identity or {})}
    found = _resume(out, plan)
    done, arrays = found["done"], found["arrays"]
    while done < count:
        stop = min(done + batch, count)
        places = [(index, variant) for index in range(done, stop) for variant in range(variants)]
        examples = [render(pictures, index, numpy_stream("latents", seed, index, variant)) for index, variant in places]
        with torch.inference_mode():
            shown = look(examples, [numpy_stream("shown", seed, index, variant) for index, variant in places])
        _save(out, plan, arrays, places, shown)
        done = stop
        write_text(out / PLAN, json.dumps({**plan, "done": done, "arrays": arrays}))
        if progress is not None:
            progress(done, count, "what is shown")
    if not (out / MANIFEST).exists():  # of several processes the first one writes it
        write_text(out / MANIFEST, json.dumps({**plan, "arrays": arrays}))
    return Readings(out)


_FLAG = {"shape": [], "dtype": "uint8"}


def _resume(out: Path, plan: dict[str, Any]) -> dict[str, Any]:
    if not (out / PLAN).exists():
        for leftover in out.glob(f"*{SUFFIX}"):  # of a build that was stopped before its first saving
            leftover.unlink()
        return {"done": 0, "arrays": {}}
    found = json.loads((out / PLAN).read_text(encoding="utf-8"))
    other = [name for name, value in plan.items() if found.get(name) != value]
    if other:
        given = f"{out} keeps what was shown with another {', '.join(other)}"
        raise DataError(explain(given, "a folder keeps one kind", "choose another folder, or delete this one"))
    return found


def _save(
    out: Path,
    plan: dict[str, Any],
    arrays: dict[str, dict[str, Any]],
    places: Sequence[tuple[int, int]],
    shown: Sequence[Mapping[str, Any]],
) -> None:
    size = (plan["count"], plan["variants"])
    for name in sorted({name for row in shown for name in row}):
        values = {place: _small(row[name]) for place, row in zip(places, shown, strict=True) if name in row}
        first = next(iter(values.values()))
        kind = arrays.setdefault(name, {"shape": list(first.shape), "dtype": str(first.dtype)})
        store = _open(out, name, kind, size, "r+")
        there = _open(out, f"{name}.{THERE}", _FLAG, size, "r+")
        for place, value in values.items():
            if list(value.shape) != kind["shape"]:
                given = f"{name!r} of shape {list(value.shape)} beside {kind['shape']}"
                raise DataError(explain(given, "all pictures must be shown in one size"))
            store[place], there[place] = value, 1
        store.flush()
        there.flush()


def _small(value: Any) -> np.ndarray:
    """The array in 16 bits or fewer where it holds fractions."""
    array = torch.as_tensor(value).detach().cpu().numpy()
    return array.astype(np.float16) if array.dtype in (np.float32, np.float64) else array


def _open(folder: Path, name: str, kind: Mapping[str, Any], place: tuple[int, int], mode: Any) -> np.memmap:
    path = folder / f"{name}{SUFFIX}"
    if mode == "r+" and not path.exists():
        mode = "w+"
    return np.memmap(path, dtype=kind["dtype"], mode=mode, shape=(*place, *kind["shape"]))
