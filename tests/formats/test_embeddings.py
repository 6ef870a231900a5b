"""Files of learned words, in every form that people share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from undiffuse.checkpoints.embeddings import read_words
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch, UnknownFormat
from undiffuse.core.random import normal
from undiffuse.networks.text.learned import LearnedWord

ROWS = normal((3, 8), "words")
WIDE = normal((3, 12), "words")


def early_module() -> nn.ParameterDict:
    """A table of parameters as the first programs stored it."""
    return nn.ParameterDict({"*": nn.Parameter(ROWS.clone())})


A1111: dict[str, Any] = {"string_to_token": {"*": 265}, "string_to_param": {"*": ROWS}, "name": "other", "step": 500}
PICKLES: dict[str, tuple[dict[str, Any], str]] = {
    "A1111": (A1111, "fox"),
    "A1111, early": ({**A1111, "string_to_param": early_module()}, "fox"),
    "diffusers": ({"<fox>": ROWS}, "<fox>"),
}
SAFE: dict[str, tuple[dict[str, Tensor], str]] = {
    "A1111": ({"emb_params": ROWS}, "fox"),
    "diffusers": ({"<fox>": ROWS}, "<fox>"),
}


@pytest.mark.parametrize("ending", [".pt", ".bin"])
@pytest.mark.parametrize("case", PICKLES)
def test_pickles(case: str, ending: str, tmp_path: Path) -> None:
    content, name = PICKLES[case]
    torch.save(content, tmp_path / f"fox{ending}")
    (word,) = read_words(tmp_path / f"fox{ending}")
    assert word.name == name
    assert torch.equal(word.vectors[0], ROWS)
    assert not word.vectors[0].requires_grad
    assert word.length == 3


@pytest.mark.parametrize("case", SAFE)
def test_safetensors(case: str, tmp_path: Path) -> None:
    content, name = SAFE[case]
    path = tmp_path / "fox.safetensors"
    save_file(content, path)
    (word,) = read_words(path)
    assert (word.name, len(word.vectors)) == (name, 1)
    assert torch.equal(word.vectors[0], ROWS)
    assert word.hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_words(path, "cat")[0].name == "cat"


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_words_of_xl_have_vectors_for_both_encoders_in_their_order(names: tuple[str, str], tmp_path: Path) -> None:
    save_file(dict(zip(names, (ROWS, WIDE), strict=True)), tmp_path / "fox.safetensors")
    (word,) = read_words(tmp_path / "fox.safetensors")
    assert [v.shape for v in word.vectors] == [ROWS.shape, WIDE.shape]
    assert [v.shape[1] for v in word.for_widths((8, 12))] == [8, 12]
    save_file({names[1]: WIDE}, tmp_path / "half.safetensors")
    with pytest.raises(MissingKeys, match=names[0]):
        read_words(tmp_path / "half.safetensors")
    save_file({names[0]: ROWS, names[1]: WIDE[:2]}, tmp_path / "uneven.safetensors")
    with pytest.raises(MissingKeys, match="3 and 2 vectors"):
        read_words(tmp_path / "uneven.safetensors")


def test_a_single_vector_is_a_word_of_one_token_and_a_file_may_hold_several(tmp_path: Path) -> None:
    save_file({"<fox>": ROWS[0].clone(), "<boat>": ROWS}, tmp_path / "a.safetensors")
    words = {word.name: word for word in read_words(tmp_path / "a.safetensors")}
    assert {name: word.length for name, word in words.items()} == {"<fox>": 1, "<boat>": 3}
    with pytest.raises(UnknownFormat, match="2 words"):
        read_words(tmp_path / "a.safetensors", "cat")


def test_vectors_go_to_the_encoder_of_their_width_or_are_refused() -> None:
    word = LearnedWord("fox", (torch.ones(2, 768),))
    assert torch.equal(word.for_widths([768])[0], word.vectors[0])
    with pytest.raises(ShapeMismatch, match=r"'fox' has vectors of 768 numbers, as of Stable Diffusion 1.x.*read 1024"):
        word.for_widths([1024])
    with pytest.raises(ShapeMismatch, match="read 768 and 1280"):
        word.for_widths([768, 1280])
    with pytest.raises(ShapeMismatch, match="no words"):
        word.for_widths([])
    both = LearnedWord("fox", (torch.ones(1, 768), torch.ones(1, 1280)))
    assert [v.shape[1] for v in both.for_widths([1280, 768])] == [1280, 768]
    with pytest.raises(ShapeMismatch, match="as of Stable Diffusion XL"):
        both.for_widths([768])


def test_two_encoders_of_one_width_get_theirs_in_order() -> None:
    word = LearnedWord("fox", (torch.zeros(1, 8), torch.ones(1, 8)))
    assert [float(v[0, 0]) for v in word.for_widths([8, 8])] == [0, 1]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"emb_params": torch.ones(2, 3), "other": torch.ones(1)},
        {"<fox>": torch.ones(2, 3, 4)},
        {"<fox>": torch.ones(2, 3, dtype=torch.int64)},
        {"unet.conv_in.lora_A.weight": torch.ones(2, 3)},
    ],
)
def test_other_files_are_refused(content: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(content, tmp_path / "a.safetensors")
    with pytest.raises(UnknownFormat, match="no learned word"):
        read_words(tmp_path / "a.safetensors")


@pytest.mark.parametrize("params", [{}, {"*": ROWS, "+": ROWS}, {"*": "text"}, ROWS])
def test_other_pickles_are_refused(params: Any, tmp_path: Path) -> None:
    torch.save({"string_to_param": params}, tmp_path / "a.pt")
    with pytest.raises(UnknownFormat):
        read_words(tmp_path / "a.pt")
    torch.save([ROWS], tmp_path / "b.pt")
    with pytest.raises(UnknownFormat, match="list"):
        read_words(tmp_path / "b.pt")
    torch.save({"string_to_param": {"*": ROWS}, "run": Path}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="nothing is ever run"):
        read_words(tmp_path / "c.pt")
