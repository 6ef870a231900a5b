"""`undiffuse evaluate contexts` from the command line, with a tiny model that learned every kind of context."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from undiffuse.checkpoints.api import save_model
from undiffuse.cli.main import run
from undiffuse.conditioners.boxes import BoxesSpec
from undiffuse.conditioners.maps import MapSpec
from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.small import SmallSpec
from undiffuse.evaluation import features, report
from undiffuse.model.build import build_model
from undiffuse.model.spec import ModelSpec, join_routes

MASK = ["mask_better_than_telea", "mask_distance", "telea_distance"]
MAP = ["map_agreement", "map_agreement_real", "map_agreement_ratio", "map_agreement_elsewhere"]
SMALL = ["small_better_psnr", "small_better_distance", "small_better_both", "small_psnr", "bicubic_psnr",
         "small_distance", "bicubic_distance"]  # fmt: skip
LABEL = ["label_top1", "label_top5", "label_ceiling_top1", "label_ceiling_top5"]
BOXES = ["boxes_top1", "boxes_top5", "boxes_elsewhere_top5", "boxes_ceiling_top1", "boxes_ceiling_top5"]


class Coarse:
    """Cells of colour in place of EfficientNet-Lite0."""

    def __call__(self, pixels: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pixels.float(), 2).flatten(1)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(pixels.float(), 4)]


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "load_extractor", lambda device: Coarse())
    monkeypatch.setattr(report, "RESAMPLES", 50)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Eight landscapes with caption, class, map and box; two for validation."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    rows = []
    for number in range(8):
        kind, colour = (("fox", 200), ("boat", 90))[number % 2]
        indices = np.zeros((16, 20), dtype=np.uint8)
        indices[5 + number % 3 :] = 1
        Image.fromarray(indices).save(folder / f"{number}.map.png")
        Image.fromarray(np.stack([indices * colour, indices * 120, 250 - 200 * indices], -1)).save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "caption": f"a {kind}", "kind": kind, "map": f"{number}.map.png",
                     "boxes": [[0.2, 0.4, 0.8, 1.0, kind]], "split": "val" if number > 5 else "train"})  # fmt: skip
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "map_classes.txt").write_text("sky\nground\n")
    return folder


@pytest.fixture(scope="module")
def steered(tiny_spec: ModelSpec, tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 16 x 16 pixels that learned everything, with random weights."""
    factor, channels = tiny_spec.codec.autoencoder.factor, tiny_spec.codec.autoencoder.latent_channels
    parts = [
        *tiny_spec.conditioners,
        MaskSpec(channels=channels, factor=factor),
        MapSpec(classes=("sky", "ground"), factor=factor, width=3),
        SmallSpec(scale=2, factor=factor),
        BoxesSpec(classes=("fox", "boat"), width=16, most=2),
    ]
    tokens, vector, spatial = join_routes(parts)
    widths = {"context_width": tokens, "vector_width": vector, "spatial_channels": spatial}
    net = tiny_spec.denoiser.model_copy(update=widths)
    spec = tiny_spec.model_dump(mode="json") | {"conditioners": [part.model_dump() for part in parts], "denoiser": net}
    folder = tmp_path_factory.mktemp("steered")
    save_model(build_model(ModelSpec.parse(spec), tiny_model.conditioner.parts[0].tokenizer), folder)
    return folder


def contexts(model: Path, data: Path, *more: str) -> int:
    return run(["evaluate", "contexts", "--model", str(model), "--data", str(data), "--steps", "1", "--device", "cpu", *more])


def test_all_contexts_give_flat_figures(steered: Path, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert contexts(steered, scenes, "--precision", "fp32", "--json") == 0

    told = capsys.readouterr()
    figures = json.loads(told.out)
    assert list(figures) == [*MASK, *MAP, *SMALL, *LABEL, *BOXES]
    assert all(set(figure) == {"value", "n", "low", "high"} and figure["n"] == 2 for figure in figures.values())
    assert figures["label_ceiling_top1"]["value"] == figures["map_agreement_real"]["value"] == 1
    assert told.err == ""


def test_people_get_a_table_a_sheet_and_what_was_left_out(
    tiny_folder: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "new" / "sheet.png"

    assert contexts(tiny_folder, scenes, "--count", "2", "--guidance", "1", "--sheet", str(sheet)) == 0

    told = capsys.readouterr()
    assert "label ceiling top5" in told.out and "mask" not in told.out.partition(str(sheet))[0]
    assert f"{sheet}: from the top, label" in told.out
    for name in ("mask", "map", "small", "boxes"):
        assert f"{name} is left out: the model has not learned it" in told.err
    with Image.open(sheet) as picture:
        assert picture.size == (2 * 16, 3 * 16)


def test_damaged_pictures_are_named_once(steered: Path, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scenes / "7.png").write_bytes(b"no picture")

    assert contexts(steered, scenes) == 0
    told = capsys.readouterr()
    assert told.err.count("7.png") <= 2 and "problems of the data set: " in told.err
    assert told.out.splitlines()[1].split()[-1] == "1"


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--sheet", "sheet.doc"], 2, "allowed are .png"),
        (["--steps", "0"], 2, "steps = 0"),
        (["--count", "0"], 2, "'--count'"),
        (["--data", "nowhere"], 3, "nowhere is not there"),
    ],
)
def test_wrong_options_are_one_line(
    more: list[str], code: int, message: str, tiny_folder: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert contexts(tiny_folder, scenes, *more) == code
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and told.out == ""


def test_the_missing_default_set_is_told_with_the_command_that_makes_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", "contexts", "--model", str(tiny_folder)]) == 3
    assert "undiffuse data build scenes" in capsys.readouterr().err


def test_a_missing_opencv_exits_6(
    steered: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert contexts(steered, scenes) == 6
    assert 'pip install "undiffuse[eval]"' in capsys.readouterr().err


def test_help_loads_no_torch() -> None:
    words = ["evaluate", "contexts", "--help"]
    code = f"import sys; from undiffuse.cli.main import run; run({words!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_same_seed_asks_for_the_same_pictures(steered: Path, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for batch in ("1", "2"):
        torch.manual_seed(int(batch))  # nothing reads the global generator
        assert contexts(steered, scenes, "--precision", "fp32", "--batch", batch, "--json") == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0] == {name: pytest.approx(figure, abs=5e-3) for name, figure in reports[1].items()}


def test_fidelity_compares_as_many_drawings_as_are_held_out(
    tiny_folder: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(tiny_folder), "--data", str(scenes), "--steps", "1", "--device", "cpu", "--json"]
    assert run(["evaluate", "fidelity", *options]) == 0

    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == ["kid", "kid_real"] and all(figure["n"] == 2 for figure in figures.values())
    assert figures["kid"]["value"] > figures["kid_real"]["value"]  # random weights against landscapes


def test_fidelity_of_drawings_that_begin_with_sketches_needs_a_model_that_makes_some(
    tiny_folder: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(tiny_folder), "--data", str(scenes), "--sketch", "0.5", "--device", "cpu"]
    assert run(["evaluate", "fidelity", *options]) != 0
    assert "sketch = 0.5 for the model 'tiny'; it makes no sketch of what words say" in capsys.readouterr().err
