"""`undiffuse inpaint`, `paint` and `upscale`: pictures from pictures, and models that never learned to."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from undiffuse.checkpoints.api import save_model
from undiffuse.cli.main import run
from undiffuse.conditioners.base import PartSpec
from undiffuse.conditioners.maps import MapSpec
from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.palette import colours
from undiffuse.conditioners.small import SmallSpec
from undiffuse.core.random import normal
from undiffuse.generation.output import read_request, read_words
from undiffuse.model.build import build_model
from undiffuse.model.spec import ModelSpec, join_routes

CLASSES = ("sky", "grass", "dragon")
PARTS = {
    "mask": MaskSpec(channels=4, factor=2),
    "map": MapSpec(classes=CLASSES, factor=2, how="resize"),
    "small": SmallSpec(scale=4, factor=2),
}
Command = Callable[..., int]


@pytest.fixture(scope="module")
def learned(tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model that reads this kind of context and nothing else."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_reading(tiny_spec, PARTS[kind], tmp_path_factory.mktemp(kind))
        return made[kind]

    return make


def save_reading(spec: ModelSpec, part: PartSpec, folder: Path) -> Path:
    routes = join_routes([part])
    widths = {"context_width": None, "vector_width": routes.vector or None, "spatial_channels": routes.spatial}
    net = spec.denoiser.model_dump() | widths
    raw = spec.model_dump(mode="json") | {"name": part.kind, "conditioners": [part.model_dump(mode="json")], "denoiser": net}
    model = build_model(ModelSpec.parse(raw))
    for name, weight in model.denoiser.network.named_parameters():
        if not weight.any():  # layers that start at zero would let no context through
            weight.data.copy_(normal(weight.shape, "editing", name) / 10)
    save_model(model, folder)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def call(tiny_folder: Path, out: Path) -> Command:
    """A command with the tiny model, two steps and a seed, and a folder to write into."""

    def command(*words: str | Path, model: Path = tiny_folder) -> int:
        return run([*map(str, words), "--model", str(model), "--steps", "2", "--seed", "1", "--out", str(out)])

    return command


@pytest.fixture
def again(out: Path) -> Command:
    """`undiffuse generate --from`, with pictures to be passed along."""

    def command(path: Path, *words: str | Path, model: Path) -> int:
        return run(["generate", "--from", str(path), *map(str, words), "--model", str(model), "--out", str(out), "--json"])

    return command


@pytest.fixture
def refused(call: Command, out: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that these words are refused with; nothing is written."""

    def command(code: int, *words: str | Path, **options: Any) -> str:
        assert call(*words, **options) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert not out.exists() or list(out.iterdir()) == []
        errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and told.err.endswith(f"{errors[0]}\n")
        return errors[0]

    return command


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    levels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """White in the middle, and one grey pixel in it."""
    picture = Image.new("L", (56, 40), 0)
    picture.paste(255, (20, 12, 32, 22))
    picture.putpixel((20, 12), 128)
    picture.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    """Sky above grass."""
    picture = Image.new("RGB", (32, 32), colours(CLASSES)[0])
    picture.paste(colours(CLASSES)[1], (0, 18, 32, 32))
    picture.save(tmp_path / "painting.png")
    return tmp_path / "painting.png"


def levels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("fill", [None, "known", "repaint"])
def test_any_model_fills_a_mask_and_touches_no_byte_around_it(
    fill: str | None, call: Command, out: Path, photo: Path, mask: Path
) -> None:
    assert call("inpaint", photo, "--mask", mask, "a red hat", *(["--fill", fill] if fill else [])) == 0

    before, after, hidden = levels(photo), levels(only(out)), levels(mask)[..., 0] > 0
    assert after.shape == before.shape
    assert np.array_equal(after[~hidden], before[~hidden])
    assert np.abs(after - before)[hidden].mean() > 5
    request = read_request(only(out), Image.open(photo), mask=Image.open(mask))
    assert (request.prompt, request.fill, request.strength) == ("a red hat", fill or "known", 1.0)


def test_a_model_that_learned_masks_fills_them_its_own_way(
    learned: Callable[[str], Path], call: Command, out: Path, photo: Path, mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fill in ([], ["--fill", "learned"], ["--fill", "known"]):
        assert call("inpaint", photo, "--mask", mask, *fill, "--json", model=learned("mask")) == 0
    told = [json.loads(text + "}")["pictures"][0]["fill"] for text in capsys.readouterr().out.split("\n}\n") if text]

    assert told == ["learned", "learned", "known"]
    first, second, third = (levels(path) for path in sorted(out.iterdir()))
    assert np.array_equal(first, second) and not np.array_equal(first, third)
    assert np.array_equal(first[levels(mask)[..., 0] == 0], levels(photo)[levels(mask)[..., 0] == 0])


def test_a_hole_may_be_closed_before_it_is_drawn(
    learned: Callable[[str], Path], call: Command, again: Command, out: Path, photo: Path, mask: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert call("inpaint", photo, "--mask", mask, "--sketch", "0.4", model=learned("mask")) == 0
    first = only(out)
    assert read_request(first, Image.open(photo), mask=Image.open(mask)).sketch == 0.4
    capsys.readouterr()
    assert again(first, "--init", photo, "--mask", mask, model=learned("mask")) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True

    assert call("inpaint", photo, "--mask", mask, "--sketch", "0.4") == 2
    assert "sketch = 0.4 with fill = 'known'; that begins with noise alone; leave sketch out" in capsys.readouterr().err


def test_ways_to_fill_give_different_pictures(call: Command, out: Path, photo: Path, mask: Path) -> None:
    for fill in ("known", "repaint"):
        assert call("inpaint", photo, "--mask", mask, "--fill", fill) == 0

    known, repainted = (levels(path) for path in sorted(out.iterdir()))
    assert not np.array_equal(known, repainted)


def test_the_alpha_channel_may_be_the_mask(call: Command, out: Path, photo: Path, mask: Path, tmp_path: Path) -> None:
    layered = Image.new("RGBA", (56, 40), (9, 9, 9, 0))
    layered.putalpha(Image.open(mask))
    layered.save(tmp_path / "layer.png")
    opaque = Image.merge("RGB", [Image.open(mask)] * 3).convert("RGBA")  # as many programs save black and white
    opaque.save(tmp_path / "opaque.png")

    for path in (mask, tmp_path / "layer.png", tmp_path / "opaque.png"):
        assert call("inpaint", photo, "--mask", path) == 0
    files = [path.read_bytes() for path in sorted(out.iterdir())]
    assert files[0] == files[1] == files[2]


def test_an_inpainted_picture_is_drawn_again_from_its_own_pictures(
    call: Command, again: Command, tiny_folder: Path, out: Path, photo: Path, mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("inpaint", photo, "--mask", mask, "a red hat", "--fill", "repaint") == 0
    first = only(out)
    capsys.readouterr()

    assert again(first, "--init", photo, "--mask", mask, model=tiny_folder) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["same"] is True
    assert Path(told["pictures"][0]["path"]).read_bytes() == first.read_bytes()

    assert again(first, "--init", photo, model=tiny_folder) == 3
    assert "was drawn with its mask; pictures are not stored in it; pass it along (--mask on the" in capsys.readouterr().err
    other = photo.with_name("other.png")
    Image.new("L", (56, 40), 255).save(other)
    assert again(first, "--init", photo, "--mask", other, model=tiny_folder) == 3
    assert "another picture than this one for 'mask'; its pixels must be the same" in capsys.readouterr().err


def test_generate_takes_a_mask_too(call: Command, out: Path, photo: Path, mask: Path) -> None:
    assert call("inpaint", photo, "--mask", mask, "a red hat") == 0
    assert call("generate", "a red hat", "--init", photo, "--mask", mask) == 0

    first, second = sorted(out.iterdir())
    assert first.read_bytes() == second.read_bytes()


def test_a_mask_may_be_added_to_what_is_drawn_again(
    call: Command, out: Path, photo: Path, mask: Path, tiny_folder: Path
) -> None:
    assert call("generate", "a red hat") == 0
    assert call("generate", "--from", only(out), "--init", photo, "--mask", mask) == 0

    second = sorted(out.iterdir())[1]
    request = read_request(second, Image.open(photo), mask=Image.open(mask))
    assert (request.prompt, request.strength, request.fill) == ("a red hat", 1.0, "known")


@pytest.mark.parametrize("kind", ["colours", "grey", "indexed"])
def test_a_map_becomes_a_picture_however_it_is_painted(
    kind: str, learned: Callable[[str], Path], call: Command, out: Path, painting: Path, tmp_path: Path
) -> None:
    indices = np.zeros((32, 32), dtype=np.uint8)
    indices[18:] = 1
    Image.fromarray(indices).save(tmp_path / "grey.png")
    indexed = Image.fromarray(indices).convert("P")
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    indexed.save(tmp_path / "indexed.png")
    assert call("paint", painting, model=learned("map")) == 0
    expected = levels(only(out))

    path = painting if kind == "colours" else tmp_path / f"{kind}.png"
    assert call("paint", path, model=learned("map")) == 0
    found = sorted(out.iterdir())[1]
    assert np.array_equal(levels(found), expected)
    assert expected.std() > 1


def test_another_map_is_another_picture_and_its_own_is_needed_again(
    learned: Callable[[str], Path],
    call: Command,
    again: Command,
    out: Path,
    painting: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.open(painting).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / "other.png")
    assert call("paint", painting, model=learned("map")) == 0
    assert call("paint", tmp_path / "other.png", model=learned("map")) == 0
    first, second = sorted(out.iterdir())
    assert not np.array_equal(levels(first), levels(second))
    capsys.readouterr()

    assert again(first, "--layout", painting, model=learned("map")) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True
    assert again(first, "--layout", tmp_path / "other.png", model=learned("map")) == 3
    assert "for 'layout'" in capsys.readouterr().err


def test_the_palette_names_every_class(learned: Callable[[str], Path], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["paint", "--palette", "--model", str(learned("map")), "--out", str(out)]
    assert run(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "  0  #87beeb  sky",
        "  1  #78af3c  grass",
        "  2  #e69f00  dragon",
        "255  #000000  (nothing is said)",
    ]
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["palette"]
    assert told[1] == {"index": 1, "class": "grass", "colour": "#78af3c"}
    assert not out.exists()


def test_a_colour_of_no_class_is_told_before_anything_is_drawn(
    learned: Callable[[str], Path], refused: Callable[..., str], painting: Path
) -> None:
    picture = Image.open(painting).convert("RGB")
    picture.paste((255, 0, 255), (0, 0, 9, 9))
    picture.save(painting)

    assert "the colour #ff00ff in the painting is no class's" in refused(3, "paint", painting, model=learned("map"))


def test_a_small_picture_is_enlarged(
    learned: Callable[[str], Path],
    call: Command,
    again: Command,
    out: Path,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.open(photo).resize((6, 4)).save(tmp_path / "small.png")
    assert call("upscale", tmp_path / "small.png", model=learned("small")) == 0
    first = only(out)
    assert levels(first).shape == (16, 24, 3)
    capsys.readouterr()

    assert again(first, "--small", tmp_path / "small.png", model=learned("small")) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("paint", "layout"),
        ("upscale", "small"),
        ("generate --like", "like"),
        ("generate fox --layout", "layout"),
        ("generate --small", "small"),
    ],
)
def test_models_that_have_not_learned_it_are_refused_by_name(
    words: str, field: str, refused: Callable[..., str], photo: Path
) -> None:
    told = refused(2, *words.split(), photo)
    assert told == f"error: this model has not learned '{field}'; it reads: caption, label."


def test_a_palette_needs_a_model_with_classes(refused: Callable[..., str]) -> None:
    assert "has not learned 'layout'; it reads: caption, label" in refused(2, "paint", "--palette")


def test_a_way_to_fill_that_was_not_learned_is_refused(refused: Callable[..., str], photo: Path, mask: Path) -> None:
    told = refused(2, "inpaint", photo, "--mask", mask, "--fill", "learned")
    assert told == "error: this model has not learned 'mask'; it reads: caption, label."


def test_mistakes_are_told_in_one_line(refused: Callable[..., str], photo: Path, mask: Path, tmp_path: Path) -> None:
    Image.new("L", (30, 40), 255).save(tmp_path / "narrow.png")
    Image.new("L", (56, 40), 0).save(tmp_path / "black.png")
    inpaint = ("inpaint", photo, "--mask")

    assert "a mask of 30x40 on a picture of 56x40; both must be equal" in refused(2, *inpaint, tmp_path / "narrow.png")
    assert "a mask that is black all over; white marks" in refused(2, *inpaint, tmp_path / "black.png")
    assert "none.png cannot be read (No such file or directory)" in refused(3, *inpaint, tmp_path / "none.png")
    assert "fill = 'magic': Input should be 'learned', 'known' or 'repaint'" in refused(2, *inpaint, mask, "--fill", "magic")
    assert "'--mask'" in refused(2, "inpaint", photo)
    assert "a mask without an image; the picture that it lies on" in refused(2, "generate", "--mask", mask)
    assert "no map was named; a file with a painted map is needed; --palette lists" in refused(2, "paint")


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "edit-pictures.md"
LINES = re.findall(r"^\$ undiffuse (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_every_command_of_the_page_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *words = shlex.split(line)

    assert run([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in words if word.startswith("--"))


def test_a_context_may_have_a_strength_of_its_own(
    call: Command, learned: Callable[[str], Path], out: Path, tmp_path: Path
) -> None:
    Image.new("L", (16, 16), 1).save(tmp_path / "map.png")
    for scale in ("map=1", "map=9"):
        assert call("paint", tmp_path / "map.png", "--scale", scale, model=learned("map")) == 0

    one, other = sorted(out.glob("*.png"))
    assert read_request(other, layout=Image.open(tmp_path / "map.png")).scales == {"map": 9.0}
    assert Image.open(one).tobytes() != Image.open(other).tobytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scale", "map"), "--scale 'map'; the form is KIND=NUMBER; for instance --scale map=2"),
        (("--scale", "map=much"), "--scale 'map=much'; the form is KIND=NUMBER"),
        (("--scale", "map=2"), "scales names 'map'; this model was taught text, label"),
        (("--box", "0,0,1,fox"), "--box '0,0,1,fox'; the form is left,top,right,bottom,label"),
        (("--box", "0,0,1,1,fox"), "this model cannot read boxes; it reads prompts and labels"),
    ],
)
def test_scales_and_boxes_that_make_no_sense_are_refused(
    words: tuple[str, ...], message: str, call: Command, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("generate", "a fox", *words) == 2
    assert message in capsys.readouterr().err
    assert list(out.glob("*")) == []


def test_a_picture_to_start_from_takes_the_place_of_a_sketch(tmp_path: Path, photo: Path) -> None:
    """By the embedded model, for the tiny one makes no sketches."""
    out = tmp_path / "sketched"
    assert run(["generate", "a fox", "--sketch", "0.5", "--steps", "1", "--seed", "1", "--out", str(out), "--json"]) == 0
    told = ["--from", str(only(out)), "--init", str(photo), "--out", str(tmp_path / "from"), "--json"]
    assert run(["generate", *told]) == 0
    assert read_words(only(tmp_path / "from")).sketch is None
    assert run(["generate", *told, "--sketch", "0.5"]) == 2
