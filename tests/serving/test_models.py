"""Models by name: found, loaded when needed, the least recently used let go when memory is short."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.serving.conftest import Heard

from undiffuse.core.errors import CheckpointError, UsageError
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.serving.engine import Engine, Work
from undiffuse.serving.models import Models


def opened(model: LatentDiffusion) -> Generator:
    return Generator(model, device="cpu", precision="fp32", batch=1, tell=None)


@pytest.fixture
def shelf(tiny_folder: Path, tmp_path: Path) -> Callable[..., Models]:
    """Models a and b beside the first one, each about a megabyte."""

    def make(budget: float = float("inf")) -> Models:
        folder = tmp_path / "models"
        if not folder.exists():
            folder.mkdir()
            for name in ("a", "b"):
                (folder / name).symlink_to(tiny_folder)
            (folder / "notes.txt").write_text("no model")
        return Models(str(tiny_folder), folder, budget, opened)

    return make


def loaded(models: Models, name: str) -> Generator:
    while (found := models.generator(name)) is None:
        time.sleep(0.005)
    return found


def finish(engine: Engine, heard: list[Heard]) -> None:
    while not all(one.over for one in heard):
        if not engine.turn():
            time.sleep(0.005)  # the loader needs the interpreter too


def test_what_is_in_the_folder_may_be_asked_for(shelf: Callable[..., Models], tiny_folder: Path) -> None:
    models = shelf()

    assert list(models.names) == [tiny_folder.name, "a", "b"] and models.first == tiny_folder.name
    assert models.find(None).name == models.find(tiny_folder.name.upper()).name == models.first
    assert models.find("a [0123456789]").name == models.find("a.safetensors").name == "a"
    for name in ("c", "../a", "/etc", "notes.txt"):
        with pytest.raises(CheckpointError, match="there are: "):
            models.find(name)
    models.close()


def test_the_folder_may_change(shelf: Callable[..., Models], tmp_path: Path) -> None:
    models = shelf()
    (tmp_path / "models" / "b").rename(tmp_path / "models" / "c")

    models.refresh()

    assert list(models.names)[1:] == ["a", "c"]
    with pytest.raises(UsageError, match="a folder that holds models is needed"):
        Models(None, tmp_path / "nowhere")
    models.close()


def test_a_model_is_loaded_once_and_the_least_recently_used_goes(shelf: Callable[..., Models]) -> None:
    models = shelf()
    size = models.names["a"].bytes
    models = shelf(budget=2.5 * size)
    first, a = models.first, loaded(models, "a")
    assert loaded(models, first) is loaded(models, first)
    assert loaded(models, "a") is a  # the youngest now

    loaded(models, "b")

    assert [name for name in models.names if models.loaded(name)] == ["a", "b"]
    models.let_go()
    assert [name for name in models.names if models.loaded(name)] == []
    models.close()


def test_jobs_of_more_models_than_fit_are_all_drawn(shelf: Callable[..., Models]) -> None:
    models = shelf(budget=1.0)  # less than any: one at a time
    engine = Engine(models.generator)
    models.asked, models.drawing = engine.asked, engine.drawing
    heard = [Heard() for _ in range(6)]
    for index, one in enumerate(heard):
        engine.submit(Work(str(index), ("a", "b", models.first)[index % 3], Request("a fox", steps=2, seed=index), one))

    finish(engine, heard)

    assert [one.error for one in heard] == [None] * 6
    assert sum(models.loaded(name) is not None for name in models.names) == 1
    models.close()


def test_memory_is_given_back_when_a_model_was_loaded(shelf: Callable[..., Models], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr("undiffuse.serving.models.give_back", lambda: given.append(1))
    models = shelf()
    for name in ("a", "b", "a"):
        loaded(models, name)
    assert len(given) == 2
    models.close()


def test_a_model_that_cannot_be_loaded_fails_its_jobs_alone(shelf: Callable[..., Models], tmp_path: Path) -> None:
    shelf()
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "spec.json").write_text("{}")
    models = shelf()
    engine = Engine(models.generator)
    bad, good = Heard(), Heard()
    engine.submit(Work("bad", "broken", Request("a fox", steps=2), bad))
    engine.submit(Work("good", "a", Request("a fox", steps=2), good))

    finish(engine, [bad, good])

    assert bad.error is not None and good.error is None
    models.close()
