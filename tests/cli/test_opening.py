"""How servers open models: what fits a model is added to it, what does not is told of."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from safetensors.torch import save_file

from undiffuse.cli.opening import opener
from undiffuse.core.errors import UsageError
from undiffuse.core.random import normal
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_refiner_that_fits_finishes_pictures(tiny_model: LatentDiffusion, tiny_folder: Path, said: list[str]) -> None:
    draw = opener(said.append, device="cpu", precision="fp32", refiner=str(tiny_folder))(copy.deepcopy(tiny_model))

    assert draw.refiner is not None and said == [repr(draw)]
    request = Request("a fox", seed=7, steps=2, solver="ddim")
    refined = draw(request.replace(refine_at=0.5)).images[0]  # by itself, so nothing changes
    assert refined.tobytes() == draw(request).images[0].tobytes()


def test_a_model_that_the_refiner_does_not_fit_is_drawn_without(
    tiny_model: LatentDiffusion, tiny_folder: Path, said: list[str]
) -> None:
    other = copy.deepcopy(tiny_model)
    spec = ModelSpec.parse(tiny_model.spec.model_dump(mode="json") | {"schedule": {"kind": "linear"}})
    object.__setattr__(other, "spec", spec)

    draw = opener(said.append, device="cpu", precision="fp32", refiner=str(tiny_folder))(other)

    assert draw.refiner is None
    assert "drawn without a refiner" in said[0] and "noise schedule" in said[0]


def test_words_that_a_model_cannot_read_are_told_of(tiny_model: LatentDiffusion, tmp_path: Path, said: list[str]) -> None:
    save_file({"emb_params": normal((3, 768), "words")}, tmp_path / "style.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"no pickle")
    (tmp_path / "notes.txt").write_text("nothing of ours")

    draw = opener(said.append, device="cpu", precision="fp32", embedding_dir=tmp_path)(copy.deepcopy(tiny_model))

    assert draw.model.adapters.words == {}
    assert [line.partition(" is no word")[0] for line in said[:-1]] == ["broken.pt", "style.safetensors"]
    assert "no text encoder that takes such words" in said[1]


def test_a_folder_that_is_not_there(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(UsageError, match="--embedding-dir names a folder"):
        opener(said.append, embedding_dir=tmp_path / "nowhere")
