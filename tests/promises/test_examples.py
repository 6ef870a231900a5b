"""Every script in examples/ runs and leaves the files that it promises."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import undiffuse
from undiffuse.generation.output import read_request
from undiffuse.model.latent_diffusion import LatentDiffusion

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
LONGEST = 25
SIDE = 16  # of the tiny model's pictures
ONE = (SIDE, SIDE)
PROMISED = {
    "text_to_picture": {"fox.png": ONE},
    "many_prompts": {f"many/{index:05d}-{7 + index % 2}.png": ONE for index in range(8)},
    "previews_while_drawing": {"moving.gif": ONE},
    "picture_to_picture": dict.fromkeys(["start.png", "strength-0.3.png", "strength-0.5.png", "strength-0.7.png"], ONE),
    "compare_solvers": {"solvers.png": (3 * SIDE, 5 * SIDE)},
    "guidance_strength": {"guidance.png": (5 * SIDE, SIDE)},
}
Run = Callable[[str], str]


@pytest.fixture
def run(
    tiny_model: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run an example with the tiny model as the default, on the CPU; what it printed."""
    generator = undiffuse.Generator

    def on_cpu(model: LatentDiffusion, **options: int) -> undiffuse.Generator:
        return generator(model, device="cpu", precision="fp32", **options)

    monkeypatch.setattr(undiffuse, "load_model", lambda: tiny_model)
    monkeypatch.setattr(undiffuse, "Generator", on_cpu)
    monkeypatch.chdir(tmp_path)

    def script(name: str) -> str:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return script


def test_every_example_has_a_promise_and_every_promise_an_example() -> None:
    assert sorted(PROMISED) == [path.stem for path in SCRIPTS]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_examples_are_short_and_use_public_names_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= LONGEST
    assert text.startswith('"""')
    assert "from undiffuse" not in text and "import undiffuse\n" in text


@pytest.mark.parametrize("name", PROMISED)
def test_an_example_leaves_what_it_promises(name: str, run: Run, tmp_path: Path) -> None:
    told = run(name)

    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path)): size_of(path) for path in found} == PROMISED[name]
    assert all(name in told for name in PROMISED[name] if not name.endswith(".gif") and name != "start.png")


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture whose last pixel can be read."""
    with Image.open(path) as picture:
        picture.load()
        return picture.size


def test_the_pictures_tell_their_requests(run: Run, tmp_path: Path) -> None:
    assert "from seed 7" in run("text_to_picture")
    assert read_request(tmp_path / "fox.png").prompt == "a fox, 3d render, on a blue background"


def test_there_is_a_preview_for_every_step(run: Run, tmp_path: Path) -> None:
    run("previews_while_drawing")

    with Image.open(tmp_path / "moving.gif") as picture:
        assert picture.n_frames == 12  # type: ignore[attr-defined]
