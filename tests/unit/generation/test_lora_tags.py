"""LoRAs that prompts name: read as A1111 writes them, worn for the pictures that name them, and gone behind them."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from undiffuse.checkpoints.adapters import add_lora
from undiffuse.core.errors import CheckpointError, SpecError, UsageError
from undiffuse.core.random import normal
from undiffuse.generation.generator import Generator
from undiffuse.generation.lora_tags import Tag, spoken, tags_of
from undiffuse.generation.output import read_request
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
FOX = Request("a fox", steps=2, seed=3)


def saved(path: Path, seed: str, inner: int = 64) -> Path:
    path.parent.mkdir(exist_ok=True)
    down, up = normal((2, inner), "tags", seed, "down"), normal((64, 2), "tags", seed, "up")
    save_file({f"{LAYER}.lora_down.weight": down, f"{LAYER}.lora_up.weight": up}, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(tmp_path / "loras" / "style.safetensors", "style")
    saved(tmp_path / "loras" / "more" / "Detail v2.safetensors", "detail")
    return tmp_path / "loras"


@pytest.fixture
def fresh(tiny_model: LatentDiffusion) -> LatentDiffusion:
    """A copy that may be changed."""
    return LatentDiffusion(tiny_model.codec, copy.deepcopy(tiny_model.denoiser), tiny_model.conditioner, tiny_model.spec)


@pytest.fixture
def draw(fresh: LatentDiffusion, folder: Path) -> Generator:
    return Generator(fresh, device="cpu", precision="fp32", lora_dir=folder, tell=None)


def bytes_of(draw: Generator, prompt: str) -> bytes:
    return draw(FOX.replace(prompt=prompt)).images[0].tobytes()


def levels(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).astype(int)


@pytest.mark.parametrize(
    ("prompt", "tags", "words"),
    [
        ("a fox", (), "a fox"),
        ("a fox<lora:style>", (Tag("style", 1, 1),), "a fox"),
        ("<lora:a b:0.8> a fox", (Tag("a b", 0.8, 0.8),), " a fox"),
        ("a <lora:x:0.8:0.5>fox", (Tag("x", 0.5, 0.8),), "a fox"),
        ("a fox <lyco:x:unet=0.25:te=-1>", (Tag("x", 0.25, -1),), "a fox "),
        ("a fox <lora:x:.5><lora:y:2><lora:x:.25>", (Tag("x", 0.75, 0.75), Tag("y", 2, 2)), "a fox "),
        ("a < b > c", (), "a < b > c"),
    ],
)
def test_tags_are_read_and_taken_out(prompt: str, tags: tuple[Tag, ...], words: str) -> None:
    request = Request(prompt)

    assert tags_of(request) == tags and spoken(request) == words
    plain = request.replace(context={"grammar": "plain"})
    assert tags_of(plain) == () and spoken(plain) == prompt


@pytest.mark.parametrize("inside", ["", ":0.5", "x:much", "x:1:nan", "x:dyn=2"])
def test_what_is_no_tag_is_refused(inside: str) -> None:
    with pytest.raises(SpecError, match=r"for instance <lora:style:0\.8>"):
        tags_of(Request(f"a fox <lora:{inside}>"))


def test_a_tag_draws_what_the_file_draws_and_leaves_nothing(draw: Generator, folder: Path, tiny_model: LatentDiffusion) -> None:
    own = Generator(tiny_model, device="cpu", precision="fp32", tell=None)(FOX).images[0].tobytes()
    tagged = bytes_of(draw, "a fox<lora:style:0.8>")
    assert bytes_of(draw, "a fox") == own != tagged
    assert draw.model.adapters.loras == {}

    lora = add_lora(draw.model, folder / "style.safetensors", 0.8)
    assert bytes_of(draw, "a fox") == tagged
    assert bytes_of(draw, "a fox<lora:style:0>") == own  # the prompt weighs anew what is worn
    assert lora.weights == (0.8, 0.8)
    lora.set_weight(0.3)
    assert bytes_of(draw, "a fox<lora:style:0.8>") == tagged


def test_requests_of_other_loras_are_drawn_apart_and_in_any_order(draw: Generator) -> None:
    prompts = ["a fox<lora:style>", "a fox", "a fox<lora:detail V2:0.5><lora:style:2>", "a fox<lora:style>"]
    alone = [bytes_of(draw, prompt) for prompt in prompts]
    together = draw.many([FOX.replace(prompt=prompt) for prompt in prompts])

    assert len(set(alone)) == 3 and alone[0] == alone[3]
    assert [result.request.prompt for result in together] == prompts
    streams = [draw.stream(FOX.replace(prompt=prompt)) for prompt in prompts]
    steps = [[next(stream) for stream in streams] for _ in range(2)][-1]  # one step of each in turn
    assert [step.images[0].tobytes() for step in steps] == alone
    for result, expected in zip(together, alone, strict=True):
        assert np.abs(levels(result.images[0].tobytes()) - levels(expected)).max() <= 1


def test_a_name_may_be_spelled_in_other_letters_and_one_taken_twice_by_its_path(draw: Generator, folder: Path) -> None:
    saved(folder / "more" / "style.safetensors", "another")
    first, capital, deeper, again = (
        bytes_of(draw, f"a fox <lora:{name}>") for name in ("style", "STYLE", "more/style", "style")
    )

    assert first == capital == again != deeper
    assert draw.model.adapters.loras == {}


def test_a_file_that_is_written_anew_is_read_anew(draw: Generator, folder: Path) -> None:
    before = bytes_of(draw, "a fox <lora:style:1>")
    path = saved(folder / "style.safetensors", "changed")
    os.utime(path, ns=(1, 1))

    assert bytes_of(draw, "a fox <lora:style:1>") != before


def test_a_picture_tells_its_tags_and_is_drawn_again_by_them(draw: Generator, tmp_path: Path) -> None:
    result = draw(FOX.replace(prompt="a fox <lora:style:0.8>"))
    (path,) = result.save(tmp_path / "out")
    with Image.open(path) as image:
        text = image.info["parameters"]

    assert text.startswith("a fox <lora:style:0.8>\n") and 'Lora hashes: "style: ' in text
    again = draw(read_request(path))
    assert again.images[0].tobytes() == result.images[0].tobytes()


def test_names_that_are_not_there_are_refused_before_anything_is_drawn(draw: Generator, tiny_model: LatentDiffusion) -> None:
    with pytest.raises(UsageError, match=r"no LoRA 'stile' in the folder of LoRAs; there are style, Detail v2; check"):
        draw.stream(FOX.replace(prompt="a fox <lora:stile>"))
    with pytest.raises(SpecError, match=r"no folder of LoRAs was named; .*--lora-dir"):
        Generator(tiny_model, device="cpu", precision="fp32", tell=None).stream(FOX.replace(prompt="a fox <lora:style>"))
    with pytest.raises(UsageError, match="no folder '/no/such'"):
        Generator(tiny_model, device="cpu", precision="fp32", tell=None, lora_dir="/no/such")


def test_one_that_does_not_fit_leaves_nothing(draw: Generator, folder: Path) -> None:
    saved(folder / "wide.safetensors", "wide", inner=32)

    with pytest.raises(CheckpointError, match="wide"):
        draw(FOX.replace(prompt="a fox <lora:style> <lora:wide>"))
    assert draw.model.adapters.loras == {}
