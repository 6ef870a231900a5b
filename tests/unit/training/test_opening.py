"""What a run opens: the training rows, each with its own picture and its own map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

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
