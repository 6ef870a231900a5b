"""The record of a model: its parts, its fingerprint, and moving it."""

from __future__ import annotations

import copy

import pytest
import torch

from undiffuse.core.random import normal
from undiffuse.model.latent_diffusion import LatentDiffusion


@pytest.fixture
def model(tiny_model: LatentDiffusion) -> LatentDiffusion:
    """A copy that may be changed."""
    return copy.deepcopy(tiny_model)


def test_parts_hold_every_weight_once(model: LatentDiffusion) -> None:
    assert model.parts().keys() == {"autoencoder", "denoiser", "conditioner"}
    inside = [id(p) for part in model.parts().values() for p in part.parameters()]
    whole = [id(p) for net in (model.codec, model.denoiser, model.conditioner) for p in net.parameters()]
    assert sorted(inside) == sorted(whole)
    assert len(set(inside)) == len(inside)


def test_the_fingerprint_is_ten_hex_digits_and_stays(model: LatentDiffusion, tiny_model: LatentDiffusion) -> None:
    assert len(model.fingerprint) == 10
    assert int(model.fingerprint, 16) >= 0
    assert model.fingerprint == tiny_model.fingerprint


@pytest.mark.parametrize("part", ["autoencoder", "denoiser", "conditioner"])
def test_one_changed_weight_changes_the_fingerprint(model: LatentDiffusion, part: str) -> None:
    before = model.fingerprint
    with torch.no_grad():
        next(model.parts()[part].parameters()).view(-1)[0] += 1
    assert model.fingerprint != before


def test_another_spec_changes_the_fingerprint(model: LatentDiffusion) -> None:
    renamed = LatentDiffusion(model.codec, model.denoiser, model.conditioner, model.spec.model_copy(update={"name": "other"}))
    assert renamed.fingerprint != model.fingerprint


def test_the_fingerprint_reads_every_precision(model: LatentDiffusion) -> None:
    before = model.fingerprint
    assert model.to(dtype=torch.bfloat16).fingerprint != before


@torch.no_grad()
def test_moved_to_bf16_the_big_nets_are_cast_and_the_model_still_draws(model: LatentDiffusion) -> None:
    cond, x = model.conditioner([{"caption": "fox"}]), normal((1, 4, 8, 8), "x")
    exact = model.codec.decode(model.denoiser(x, model.schedule.level(0.5), cond))
    assert model.to(dtype=torch.bfloat16) is model
    dtypes = {name: {p.dtype for p in part.parameters()} for name, part in model.parts().items()}
    assert dtypes == {"autoencoder": {torch.bfloat16}, "denoiser": {torch.bfloat16}, "conditioner": {torch.float32}}
    cast = model.codec.decode(model.denoiser(x, model.schedule.level(0.5), model.conditioner([{"caption": "fox"}])))
    assert cast.dtype == torch.float32
    assert (cast - exact).abs().mean() < 0.05


def test_moving_to_a_device_moves_every_part(model: LatentDiffusion) -> None:
    model.to("meta")
    assert model.device.type == "meta"
    assert {p.device.type for part in model.parts().values() for p in part.parameters()} == {"meta"}
    assert model.codec.scale.device.type == "meta"


def test_eval_switches_off_dropout_and_gradients(model: LatentDiffusion) -> None:
    for part in model.parts().values():
        part.train().requires_grad_(True)
    assert model.eval() is model
    assert not any(p.requires_grad for part in model.parts().values() for p in part.parameters())
    assert not any(module.training for part in model.parts().values() for module in part.modules())


def test_its_text_tells_what_it_is(model: LatentDiffusion) -> None:
    text = repr(model)
    millions = sum(p.numel() for p in model.denoiser.parameters()) / 1e6
    for fact in ("'tiny'", "16x16", "f=2", "4 channels", "flow on flow", "text, label", f"denoiser {millions:.1f} M"):
        assert fact in text
