"""Prompts of Stable Diffusion: what reaches the U-Net, what counts as nothing, sizes told beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from undiffuse.conditioners.base import Sight, Surroundings
from undiffuse.conditioners.clip import CLIPConditioner, CLIPEncoderSpec, CLIPSpec
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.size import SizeSpec
from undiffuse.core.errors import DataError, SpecError
from undiffuse.core.random import normal
from undiffuse.networks.embeddings import sinusoid

SIGHT = Sight(encode=lambda pixels: pixels, describe=lambda pixels: pixels, size=(8, 8))
ONE = CLIPEncoderSpec(width=16, layers=2, heads=2)
TWO = CLIPEncoderSpec(width=8, layers=2, heads=2, activation="gelu", projection=6, skip=1, normed=False, pooled=True, pad=0)


def built(spec: CLIPSpec) -> CLIPConditioner:
    part = spec.build(None)
    with torch.no_grad():
        for name, weight in part.named_parameters():
            weight.add_(normal(weight.shape, "clip", name) * 0.1)
    return part


def test_two_encoders_stand_side_by_side_in_every_token() -> None:
    spec = CLIPSpec(encoders=(ONE, TWO))
    cond = built(spec)([{"caption": "a fox"}, {}])
    assert cond.tokens is not None and cond.vector is not None and cond.token_mask is None
    assert cond.tokens.shape == (2, 77, spec.routes().tokens) == (2, 77, 24)
    assert cond.vector.shape == (2, spec.routes().vector) == (2, 6)


def test_a_prompt_is_the_same_alone_and_in_company() -> None:
    part = built(CLIPSpec(encoders=(ONE,)))
    together = part([{"caption": "a fox"}, {"caption": "a boat at sea"}]).tokens
    part.forget()
    alone = part([{"caption": "a boat at sea"}]).tokens
    assert together is not None and alone is not None and torch.equal(together[1:], alone)


def test_weights_that_are_loaded_are_seen() -> None:
    part = built(CLIPSpec(encoders=(ONE,)))
    before = part([{"caption": "a fox"}]).tokens
    part.load_state_dict({name: tensor + 0.1 for name, tensor in part.state_dict().items()})
    after = part([{"caption": "a fox"}]).tokens
    assert before is not None and after is not None and not torch.equal(before, after)


@pytest.mark.parametrize("null", ["encoded", "zeros"])
def test_nothing_said_is_an_empty_prompt_or_zeros(null: str) -> None:
    cond = built(CLIPSpec(encoders=(ONE, TWO), null=null))  # type: ignore[arg-type]
    nothing, said = cond.null(1), cond([{"caption": "a fox"}])
    assert nothing.tokens is not None and said.tokens is not None and nothing.vector is not None
    assert (nothing.tokens.abs().max() == 0) == (nothing.vector.abs().max() == 0) == (null == "zeros")
    assert said.tokens.abs().max() > 0


def test_the_encoders_never_learn() -> None:
    part = built(CLIPSpec(encoders=(ONE,)))
    assert part.frozen and not any(weight.requires_grad for weight in part.parameters())
    with pytest.raises(ValidationError):
        CLIPSpec(encoders=())


def test_sizes_left_out_are_those_that_are_drawn() -> None:
    part = SizeSpec(width=4).fitted(Surroundings(4, 8)).build(None)
    told = {"original_size": [512, 640], "crop": (1, 2), "target_size": [64, 80]}
    vector = part([told, {}], (8, 10)).vector
    assert vector is not None
    expected = torch.tensor([[512, 640, 1, 2, 64, 80], [64, 80, 0, 0, 64, 80]])
    assert torch.equal(vector, sinusoid(expected.flatten(), 4).view(2, -1))
    assert SizeSpec(width=4).routes().vector == 24


def test_the_refiner_is_told_a_score() -> None:
    part = SizeSpec(told=("original_size", "crop", "aesthetic"), width=2, factor=8).build(None)
    said, usual = (part([row], (1, 1)).vector for row in ({"aesthetic": 2.5}, {}))
    assert said is not None and usual is not None
    assert torch.equal(usual[:, -2:], sinusoid(torch.tensor([6.0]), 2)) and torch.equal(said[:, :-2], usual[:, :-2])
    assert torch.equal(said[:, -2:], sinusoid(torch.tensor([2.5]), 2))


def test_sizes_that_are_none_are_refused() -> None:
    part = SizeSpec(width=2, factor=8).build(None)
    with pytest.raises(DataError, match=r"crop = \[1\]; 2 numbers are needed"):
        part([{"crop": [1]}], (1, 1))
    with pytest.raises(SpecError, match="the size of the latent is needed"):
        part([{}])
    with pytest.raises(SpecError, match="factor = 0"):
        SizeSpec().build(None)


def test_guidance_compares_with_the_same_sizes() -> None:
    parts = [built(CLIPSpec(encoders=(TWO,))), SizeSpec(width=2, factor=8).build(None)]
    conditioner = Conditioner(parts)
    silent = [part for part in parts if part.guided]
    row = {"caption": "a fox", "crop": (3, 4)}
    assert conditioner.without(row, silent) == {"crop": (3, 4)}


def tokens(part: CLIPConditioner, caption: str, **more: object) -> torch.Tensor:
    found = part([{"caption": caption, **more}]).tokens
    assert found is not None
    return found


def test_without_brackets_both_grammars_read_the_same() -> None:
    part = built(CLIPSpec(encoders=(ONE,)))
    assert torch.equal(tokens(part, "a fox, at sea"), tokens(part, "a fox, at sea", grammar="plain"))
    assert not torch.equal(tokens(part, "a (fox)"), tokens(part, "a (fox)", grammar="plain"))


def test_weights_multiply_states_and_the_mean_of_a_chunk_stays() -> None:
    part = built(CLIPSpec(encoders=(ONE,)))
    plain, stressed = tokens(part, "a fox at sea"), tokens(part, "a (fox:1.5) at sea")
    weights = torch.ones(77)
    weights[2] = 1.5  # behind the start mark and "a"
    expected = plain * weights[:, None]
    assert torch.allclose(stressed, expected * plain.mean() / expected.mean(), atol=1e-6)
    assert stressed.mean() == pytest.approx(float(plain.mean()), abs=1e-6)


def test_a_long_prompt_goes_on_in_chunks_of_their_own() -> None:
    part = built(CLIPSpec(encoders=(ONE, TWO)))
    long = part([{"caption": "fox " * 75 + "boat"}, {"caption": "fox"}])
    assert long.tokens is not None and long.token_mask is not None and long.vector is not None
    assert long.tokens.shape == (2, 154, 24) and long.token_mask.sum(1).tolist() == [154, 77]
    assert torch.allclose(long.tokens[:1, 77:], tokens(part, "boat"), atol=1e-6)
    first = part([{"caption": "fox " * 75}]).vector
    assert first is not None and torch.allclose(long.vector[:1], first, atol=1e-6)
    assert tokens(part, "fox BREAK boat").shape == (1, 154, 24)
    assert tokens(part, "fox " * 75 + "boat", grammar="plain").shape == (1, 77, 24)


def test_weights_of_comfyui_lead_away_from_the_empty_prompt() -> None:
    """Against numpy, for each encoder by itself: prompt, empty prompt and weights are all that counts."""
    part = built(CLIPSpec(encoders=(ONE, TWO), null="zeros"))
    plain, empty = (tokens(part, text, grammar="comfyui").numpy() for text in ("a fox at the sea", ""))
    weights = np.ones((77, 1), dtype=np.float32)
    weights[2], weights[3], weights[5] = 1.5, 0.5, 1.1**2  # behind the start mark and "a"
    expected = plain[0] * weights + empty[0] * (1 - weights)
    found = part([{"caption": "a (fox:1.5) (at:.5) the ((sea))", "grammar": "comfyui"}])
    assert found.tokens is not None and found.vector is not None and abs(expected - plain[0]).max() > 0.1
    np.testing.assert_allclose(found.tokens[0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(tokens(part, "a fox at (the:1) sea", grammar="comfyui").numpy(), plain, atol=1e-6)
    said = part([{"caption": "a fox at the sea"}]).vector
    assert said is not None and torch.equal(found.vector, said)  # pooled as if nothing was stressed


def test_comfyui_encodes_an_empty_prompt() -> None:
    part = built(CLIPSpec(encoders=(ONE, TWO), null="zeros"))
    assert torch.equal(tokens(part, "", grammar="comfyui"), tokens(part, " ")) and tokens(part, "").abs().max() == 0
    assert tokens(part, "fox " * 75 + "(boat)", grammar="comfyui").shape == (1, 154, 24)
    assert tokens(part, "fox BREAK [boat]", grammar="comfyui").shape == (1, 77, 24)


def test_an_unknown_grammar_is_refused() -> None:
    part = built(CLIPSpec(encoders=(ONE,)))
    with pytest.raises(SpecError, match="unknown grammar 'latin'; there are: a1111, comfyui, plain"):
        part.read([{"caption": "a fox", "grammar": "latin"}], SIGHT)


def test_clip_skip_counts_from_the_end_and_layers_end() -> None:
    part = built(CLIPSpec(encoders=(ONE, TWO)))
    one, two = (tokens(part, "a fox", clip_skip=n) for n in (1, 2))
    assert torch.equal(one, tokens(part, "a fox"))
    assert not torch.equal(one[..., :16], two[..., :16])
    assert torch.equal(one[..., 16:], two[..., 16:])  # it leaves out its last layer anyway
    assert part.read([{"caption": "a fox", "clip_skip": 2}], SIGHT) == [{"caption": "a fox", "clip_skip": 2}]
    with pytest.raises(SpecError, match=r"clip_skip = 3; 1 to 2 is allowed with this text encoder\."):
        part.read([{"caption": "a fox", "clip_skip": 3}], SIGHT)


def test_loras_in_a_prompt_are_not_passed_over() -> None:
    part = built(CLIPSpec(encoders=(ONE,)))
    with pytest.raises(SpecError, match=r"<lora:style:0\.8> in the prompt; LoRAs are named beside it.*--lora FILE:WEIGHT"):
        part.read([{"caption": "a fox <lora:style:0.8>"}], SIGHT)
    assert part.read([{"caption": "<lora:x:1>", "grammar": "plain"}], SIGHT)[0]["caption"] == "<lora:x:1>"
