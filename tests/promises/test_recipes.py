"""Every recipe in the repository parses."""

from __future__ import annotations

from pathlib import Path

import pytest

from undiffuse.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_recipe_parses_and_says_what_to_expect(path: Path) -> None:
    recipe = load_recipe(path)

    assert recipe.name
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert head.startswith("#"), "a recipe opens with what it trains, for how long, and what comes out"
    assert f"undiffuse train {path.relative_to(ROOT)}" in head


def test_there_are_recipes() -> None:
    assert RECIPES
