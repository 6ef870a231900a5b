"""Files of users on a model: what is worn, how much it counts, and what is left when it is taken off."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from undiffuse.checkpoints.adapters import LoraUse, add_embedding, add_embeddings, add_lora, set_loras
from undiffuse.conditioners.base import ConditionerPart, Fields, Size
from undiffuse.conditioners.combined import Conditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import MissingKeys, ShapeMismatch, UsageError
from undiffuse.core.random import normal
from undiffuse.generation.additions import Addition, additions, hashes, tags
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.networks.text.clip import CLIPTextEncoder
from undiffuse.networks.text.learned import LearnedWord, NewWords

UNET_LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
TEXT_LAYER = "lora_te_text_model_encoder_layers_0_mlp_fc1"
X, T = normal((1, 4, 8, 8), "adapters"), torch.tensor([0.5])


class Words(ConditionerPart):
    """A part with a text encoder that remembers what it has said."""

    fields = readings = ("caption",)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = CLIPTextEncoder(vocabulary=10, width=8, layers=1, heads=2, hidden=16)
        self.new_words = NewWords(self.encoder.words)
        self.remembered = True

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        return Conditioning()

    def text_encoders(self) -> Sequence[nn.Module]:
        return (self.encoder,)

    def learn(self, word: LearnedWord) -> None:
        (vectors,) = word.for_widths([self.encoder.words.embedding_dim])
        self.new_words.learn(word.name, vectors)

    def forget(self) -> None:
        self.remembered = False


@pytest.fixture
def model(tiny_model: LatentDiffusion) -> LatentDiffusion:
    """A copy of the tiny model whose text encoder has CLIP's names."""
    return LatentDiffusion(tiny_model.codec, copy.deepcopy(tiny_model.denoiser), Conditioner([Words()]), tiny_model.spec)


def factors(layer: str, inner: int, out: int) -> dict[str, Tensor]:
    down, up = normal((2, inner), "adapters", layer), normal((out, 2), "adapters", layer, "up")
    return {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}


def both_nets(path: Path) -> Path:
    save_file(factors(UNET_LAYER, 64, 64) | factors(TEXT_LAYER, 8, 16), path)
    return path


@torch.no_grad()
def drawn(model: LatentDiffusion) -> Tensor:
    cond = Conditioning(tokens=normal((1, 3, 16), "adapters", "t"), vector=normal((1, 24), "adapters", "v"))
    return model.denoiser.network(X, T, cond)


@torch.no_grad()
def widened(model: LatentDiffusion) -> Tensor:
    (encoder,) = model.conditioner.parts[0].text_encoders()
    assert isinstance(encoder, CLIPTextEncoder)
    return encoder.layers[0].feed.widen(torch.ones(1, 8))  # type: ignore[union-attr, operator]


def test_a_lora_changes_both_nets_and_leaves_nothing_behind(model: LatentDiffusion, tmp_path: Path) -> None:
    before, text_before, hash_before = drawn(model), widened(model), model.fingerprint
    lora = add_lora(model, both_nets(tmp_path / "fox.safetensors"), 0.5)
    assert (lora.name, lora.weights) == ("fox", (0.5, 0.5))
    assert not torch.equal(drawn(model), before)
    down, up = (factors(TEXT_LAYER, 8, 16)[f"{TEXT_LAYER}.lora_{name}.weight"] for name in ("down", "up"))
    expected = text_before + 0.5 * torch.ones(1, 8) @ down.T @ up.T
    torch.testing.assert_close(widened(model), expected)
    assert model.fingerprint == hash_before
    lora.take_off()
    assert torch.equal(drawn(model), before)
    assert torch.equal(widened(model), text_before)
    assert model.adapters.loras == {}


def test_the_two_kinds_of_nets_may_count_differently(model: LatentDiffusion, tmp_path: Path) -> None:
    before, text_before = drawn(model), widened(model)
    lora = add_lora(model, both_nets(tmp_path / "fox.safetensors"), 0.7, text_weight=0.0)
    assert torch.equal(widened(model), text_before)
    assert not torch.equal(drawn(model), before)
    lora.set_weight(0.0, 1.0)
    assert torch.equal(drawn(model), before)
    assert not torch.equal(widened(model), text_before)
    lora.set_weight(0.25)
    assert lora.weights == (0.25, 0.25)


def test_whatever_was_remembered_of_prompts_is_forgotten(model: LatentDiffusion, tmp_path: Path) -> None:
    part = model.conditioner.parts[0]
    assert isinstance(part, Words)
    lora = add_lora(model, both_nets(tmp_path / "fox.safetensors"))
    save_file({"emb_params": torch.ones(2, 8)}, tmp_path / "word.safetensors")
    for change in (
        lambda: lora.set_weight(0.5),
        model.adapters.merge,
        model.adapters.unmerge,
        lora.take_off,
        lambda: add_embedding(model, tmp_path / "word.safetensors"),
    ):
        part.remembered = True
        change()
        assert not part.remembered


def test_merging_keeps_the_pictures_and_comes_back_to_the_bit(model: LatentDiffusion, tmp_path: Path) -> None:
    fingerprint = model.fingerprint
    add_lora(model, both_nets(tmp_path / "fox.safetensors"))
    beside = drawn(model)
    model.adapters.merge()
    torch.testing.assert_close(drawn(model), beside)
    assert model.fingerprint != fingerprint
    model.adapters.unmerge()
    assert model.fingerprint == fingerprint
    assert torch.equal(drawn(model), beside)


def test_a_file_is_worn_whole_or_not_at_all(model: LatentDiffusion, tmp_path: Path) -> None:
    before = drawn(model)
    save_file(factors(UNET_LAYER, 64, 64) | factors(TEXT_LAYER, 12, 16), tmp_path / "a.safetensors")
    with pytest.raises(ShapeMismatch, match=r"layers.0.feed.widen"):
        add_lora(model, tmp_path / "a.safetensors")
    save_file(factors(UNET_LAYER, 64, 64) | factors("lora_te2_x", 8, 16), tmp_path / "b.safetensors")
    with pytest.raises(MissingKeys, match="lora_te2_x"):
        add_lora(model, tmp_path / "b.safetensors")
    assert torch.equal(drawn(model), before)
    assert model.adapters.loras == {}


def test_a_name_is_worn_once_and_must_be_worn_to_be_changed(model: LatentDiffusion, tmp_path: Path) -> None:
    lora = add_lora(model, both_nets(tmp_path / "fox.safetensors"))
    with pytest.raises(UsageError, match="'fox' is worn already"):
        add_lora(model, tmp_path / "fox.safetensors")
    assert add_lora(model, tmp_path / "fox.safetensors", name="other").name == "other"
    lora.take_off()
    with pytest.raises(UsageError, match="no LoRA 'fox' is worn; those that are: 'other'"):
        lora.set_weight(1.0)


def test_setting_loras_wears_these_and_no_others(model: LatentDiffusion, tmp_path: Path) -> None:
    before = drawn(model)
    fox, boat = both_nets(tmp_path / "fox.safetensors"), both_nets(tmp_path / "boat.safetensors")
    set_loras(model, [LoraUse(fox), LoraUse(boat, 0.5, 0.25)])
    kept = model.adapters.loras["boat"].lora
    set_loras(model, [LoraUse(boat, 0.75)])
    assert {name: worn.weights for name, worn in model.adapters.loras.items()} == {"boat": (0.75, 0.75)}
    assert model.adapters.loras["boat"].lora is kept
    with pytest.raises(UsageError, match="'boat'"):
        set_loras(model, [LoraUse(boat), LoraUse(tmp_path / "sub" / "boat.safetensors")])
    save_file({"strange": torch.ones(1)}, tmp_path / "strange.safetensors")
    with pytest.raises(MissingKeys):
        set_loras(model, [LoraUse(fox), LoraUse(tmp_path / "strange.safetensors")])
    assert list(model.adapters.loras) == ["boat"]
    set_loras(model, [])
    assert torch.equal(drawn(model), before)


def test_learned_words_go_to_the_text_encoder(model: LatentDiffusion, tmp_path: Path) -> None:
    part = model.conditioner.parts[0]
    assert isinstance(part, Words)
    save_file({"<fox>": normal((2, 8), "adapters", "fox")}, tmp_path / "a.safetensors")
    assert add_embedding(model, tmp_path / "a.safetensors") == ("<fox>",)
    assert part.new_words.ids == {"<fox>": (10, 11)}
    assert list(model.adapters.words) == ["<fox>"]
    save_file({"emb_params": torch.ones(2, 12)}, tmp_path / "b.safetensors")
    with pytest.raises(ShapeMismatch, match="read 8"):
        add_embedding(model, tmp_path / "b.safetensors")
    assert list(model.adapters.words) == ["<fox>"]


def test_of_a_folder_of_learned_words_those_that_fit_are_known(model: LatentDiffusion, tmp_path: Path) -> None:
    save_file({"<fox>": normal((2, 8), "adapters", "fox")}, tmp_path / "a.safetensors")
    save_file({"emb_params": torch.ones(2, 12)}, tmp_path / "b.safetensors")
    (tmp_path / "readme.md").write_text("words")

    refused = add_embeddings(model, tmp_path)

    assert list(model.adapters.words) == ["<fox>"]
    assert list(refused) == ["b.safetensors"] and "read 8" in refused["b.safetensors"]


def test_pictures_tell_the_loras_that_count_and_the_words_that_prompts_name(model: LatentDiffusion, tmp_path: Path) -> None:
    save_file({"<fox>": normal((2, 8), "adapters", "fox")}, tmp_path / "a.safetensors")
    add_embedding(model, tmp_path / "a.safetensors")
    add_lora(model, both_nets(tmp_path / "style.safetensors"), 0.8, 0.4)
    lora = add_lora(model, both_nets(tmp_path / "idle.safetensors"), 0.0)
    word = Addition("word", "<fox>", hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest())
    style = Addition("lora", "style", model.adapters.loras["style"].lora.hash, 0.8, 0.4)
    assert additions(Request("a fox"), model) == (style,)
    assert additions(Request("a <FOX>"), model) == (style, word)
    assert additions(Request("a boat", negative="<fox>"), model) == (style, word)
    lora.set_weight(0.1)
    assert [one.name for one in additions(Request(""), model)] == ["style", "idle"]

    assert hashes((style, word)) == {"Lora hashes": f"style: {style.hash[:12]}", "TI hashes": f"<fox>: {word.hash[:12]}"}
    assert hashes(()) == {}
    assert tags(Request("a fox"), (style, word)) == " <lora:style:0.4:0.8>"
    assert tags(Request("a fox <lora:style:0.8>"), (style, word)) == ""


def test_models_without_such_a_text_encoder_refuse_learned_words(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    save_file({"emb_params": torch.ones(2, 16)}, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="no text encoder that takes such words"):
        add_embedding(tiny_model, tmp_path / "a.safetensors")
