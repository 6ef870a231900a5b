"""What a run opens: the training rows, each with its own picture and its own map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.training.opening import open_pictures
from undiffuse.training.recipe import load_recipe


def test_every_training_picture_keeps_its_own_map(diffusion_recipe: Path, tmp_path: Path) -> None:
    rows = []
    for index in range(6):
        level = np.full((16, 16), index, dtype=np.uint8)
        Image.fromarray(np.stack([level] * 3, -1)).save(tmp_path / f"{index}.png")
        Image.fromarray(level).save(tmp_path / f"{index}.map.png")
        rows.append({"file": f"{index}.png", "map": f"{index}.map.png", "split": "val" if index in (0, 3) else "train"})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "map_classes.txt").write_text("a\nb\nc\nd\ne\nf\n")

    data, train, held_out = open_pictures(load_recipe(diffusion_recipe, [f"data.path={tmp_path}", "data.caption=x"]))
    assert [row.key for row in data.rows] == ["1.png", "2.png", "4.png", "5.png"]
    for pictures in (train, held_out):
        for index in range(len(pictures)):
            indices = pictures.read_map(index)
            assert indices is not None and indices.getpixel((0, 0)) == pictures.read(index).getpixel((0, 0))[0]  # type: ignore[index]


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Six pictures of a cat, a dog and a fish, two of each."""
    rows = []
    for index in range(6):
        Image.new("RGB", (16, 16), (index, 0, 0)).save(tmp_path / f"{index}.png")
        animal = ("cat", "dog", "fish")[index % 3]
        row = {"file": f"{index}.png", "caption": animal, "animal": animal, "home": "sea" if animal == "fish" else "land"}
        rows.append(row | {"split": "val" if index == 0 else "train"})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_only_keeps_rows_with_these_values_and_their_classes(diffusion_recipe: Path, zoo: Path) -> None:
    recipe = load_recipe(diffusion_recipe, [f"data.path={zoo}", "data.label=animal"])
    narrow = recipe.model_copy(update={"data": recipe.data.model_copy(update={"only": {"animal": ("cat", "fish")}})})
    data, _, held_out = open_pictures(narrow)
    assert {row.caption for row in data.rows} == {"cat", "fish"} and data.classes == ["cat", "fish"]
    assert [row.caption for row in held_out.rows] == ["cat"]


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ({"animal": ("horse",)}, "'horse'; in .*there are: cat, dog, fish"),
        ({"colour": ("red",)}, "no pictures with that field"),
        ({"animal": ("fish",), "home": ("land",)}, "no picture has all of that"),
    ],
)
def test_only_refuses_what_no_picture_has(
    only: dict[str, tuple[str, ...]], told: str, diffusion_recipe: Path, zoo: Path
) -> None:
    recipe = load_recipe(diffusion_recipe, [f"data.path={zoo}"])
    narrow = recipe.model_copy(update={"data": recipe.data.model_copy(update={"only": only})})
    with pytest.raises(DataError, match=told):
        open_pictures(narrow)
