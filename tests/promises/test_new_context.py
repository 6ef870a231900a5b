"""The page on a new kind of context does what it says: one file, one row, and the model learns and obeys it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import undiffuse

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/new-context.md"
TRAIN = """
from undiffuse.training.recipe import load_recipe
from undiffuse.training.run import train
train(load_recipe({recipe!r}, [{settings}]), "runs/lines")
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def follow_the_page(package: Path) -> None:
    """Write the file, and add the row, to a copy of the package."""
    part, _ = blocks("python")
    (package / "conditioners/lines.py").write_text(part)
    added = [line[1:] for line in blocks("diff")[0].splitlines() if line.startswith("+")]
    table = (package / "conditioners/table.py").read_text()
    table = table.replace("from undiffuse.conditioners.labels", f"{added[0]}\nfrom undiffuse.conditioners.labels", 1)
    (package / "conditioners/table.py").write_text(table.replace("}\n", f"{added[1]}\n}}\n", 1))


def test_the_page_adds_a_line_drawing(
    tmp_path: Path, tiny_folder: Path, make_photos: Callable[..., Path], diffusion_recipe: Path
) -> None:
    package = tmp_path / "copy/undiffuse"
    shutil.copytree(Path(undiffuse.__file__).parent, package, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    follow_the_page(package)
    parts = [f"objective.codec={tiny_folder}", f"conditioners.text.source={tiny_folder}"]
    settings = [f"data.path={make_photos(4, 'texts')}", *parts, "run.steps=1"]
    recipe = tmp_path / "lines.toml"
    recipe.write_text(diffusion_recipe.read_text() + blocks("toml")[0])
    code = TRAIN.format(recipe=str(recipe), settings=", ".join(map(repr, settings)))

    environment = {"PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code + blocks("python")[1]], cwd=tmp_path, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fox.png").is_file()
    assert '"kind": "lines"' in (tmp_path / "runs/lines/model/spec.json").read_text()
