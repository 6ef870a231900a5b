"""Whole models with a LoRA in every net, against diffusers' pipelines that loaded the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from undiffuse.checkpoints.adapters import add_lora
from undiffuse.checkpoints.api import load_model
from undiffuse.checkpoints.lora_files import save_lora
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import normal
from undiffuse.model.adapters import Lora
from undiffuse.networks.lora import LowRank

Pipelines = Callable[[str], tuple[Any, Path]]
READ = (".to_query", ".to_value", ".to_out", ".widen", ".narrow")
X, T = normal((1, 4, 16, 16), "adapters", "x"), torch.tensor([501.0])


def far(ours: Tensor | None, theirs: Tensor) -> float:
    assert ours is not None
    return float((ours - theirs).abs().max() / theirs.abs().max())


def random_lora(nets: dict[str, nn.Module]) -> Lora:
    """Terms for linear layers of every net."""
    terms: dict[str, dict[str, LowRank]] = {}
    for net, module in nets.items():
        for path, layer in module.named_modules():
            if isinstance(layer, nn.Linear) and path.endswith(READ):
                down = normal((2, layer.in_features), "adapters", net, path) * 0.3
                up = normal((layer.out_features, 2), "adapters", net, path, "up") * 0.3
                terms.setdefault(net, {})[path] = LowRank(down, up, 1.0)
    return Lora("fox", terms)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
@pytest.mark.parametrize("kind", ["sd1", "sd2-v", "xl"])
@pytest.mark.parametrize("form", ["kohya", "diffusers"])
def test_models_with_a_lora_equal_the_oracle(kind: str, form: str, pipelines: Pipelines, tmp_path: Path) -> None:
    _, folder = pipelines(kind)
    model, pipe = load_model(folder), DiffusionPipeline.from_pretrained(folder)
    nets = model.adapters.nets()
    assert list(nets) == ["unet", "text_encoder", "text_encoder_2"][: 3 if kind == "xl" else 2]
    save_lora(random_lora(nets), tmp_path / "fox.safetensors", nets, form)

    prompt = [{"caption": "a fox"}]
    before = model.conditioner(prompt, (16, 16))
    add_lora(model, tmp_path / "fox.safetensors")
    pipe.load_lora_weights(str(tmp_path), weight_name="fox.safetensors")
    after = model.conditioner(prompt, (16, 16))
    told = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    states, _, *pooled = pipe.encode_prompt("a fox", **told)
    assert far(before.tokens, states) > 1e-2
    assert far(after.tokens, states) <= 1e-5
    if kind == "xl":
        assert after.vector is not None
        pooled = pooled[0]
        assert far(after.vector[:, : pooled.shape[1]], pooled) <= 1e-5
        sizes = torch.tensor([[64, 64, 0, 0, 64, 64]])
        their = pipe.unet(X, T, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample
        numbers = pipe.unet.add_time_proj(sizes.flatten()).reshape(1, -1)
        cond = Conditioning(tokens=states, vector=torch.cat([pooled, numbers], dim=1))
    else:
        their, cond = pipe.unet(X, T, states).sample, Conditioning(tokens=states)
    assert far(model.denoiser.network(X, T, cond), their) <= 1e-5
