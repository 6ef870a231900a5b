"""Tiny pipelines of diffusers' with random numbers in every tensor, in the shapes of Stable Diffusion's families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from undiffuse.checkpoints.diffusers_export import _write_tokenizer
from undiffuse.core.random import normal

WIDTH = 32
BLOCKS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}


def randomised(net: nn.Module, name: str) -> nn.Module:
    """The net with other numbers than it was made with, in every tensor."""
    with torch.no_grad():
        for key, weight in net.named_parameters():
            weight.add_(normal(weight.shape, name, key) * 0.05)
    return net.eval()


def text_encoder(name: str, activation: str = "quick_gelu", projection: int | None = None) -> nn.Module:
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    marks = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1}
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    config = CLIPTextConfig(**sizes, **marks, hidden_act=activation, projection_dim=projection or WIDTH)
    return randomised(kind(config), name)


def autoencoder(levels: int = 2) -> nn.Module:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    sizes = {"block_out_channels": (32,) * levels, "layers_per_block": 1, "latent_channels": 4, "sample_size": 32}
    return randomised(AutoencoderKL(**blocks, **sizes, scaling_factor=0.18215), "vae")


def unet(channels: int = 4, **more: Any) -> nn.Module:
    sizes = {"block_out_channels": (64, 128), "layers_per_block": 1, "sample_size": 16, "out_channels": 4}
    options = {**BLOCKS, "cross_attention_dim": WIDTH, "attention_head_dim": 4, **more}
    return randomised(UNet2DConditionModel(in_channels=channels, **sizes, **options), "unet")


def scheduler(**more: Any) -> DDIMScheduler:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**(betas | more), clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing")


def xl(refines: bool, end: CLIPTokenizer, zero: CLIPTokenizer) -> Any:
    """XL's base model, or its refiner, which reads the second text encoder alone and a score instead of a second size."""
    more = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24 + (5 if refines else 6) * 8,
        "transformer_layers_per_block": (1, 2),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "use_linear_projection": True,
        "cross_attention_dim": WIDTH if refines else 2 * WIDTH,
        "attention_head_dim": (4, 8),
    }
    parts = {"vae": autoencoder(), "text_encoder_2": text_encoder("two", "gelu", 24), "tokenizer_2": zero}
    parts |= {"unet": unet(**more), "scheduler": scheduler(), "add_watermarker": False}
    if refines:
        told = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}
        return StableDiffusionXLImg2ImgPipeline(text_encoder=None, tokenizer=None, **parts, **told)
    return StableDiffusionXLPipeline(text_encoder=text_encoder("one"), tokenizer=end, **parts)


def upscaler(zero: CLIPTokenizer) -> Any:
    """The x4 upscaler: no self-attention on the first level, a row of a table for every noise level."""
    betas = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
    vae = autoencoder(3)
    vae.register_to_config(scaling_factor=0.08333)
    crossing = {"only_cross_attention": (True, False), "num_class_embeds": 1000}
    parts = {"vae": vae, "text_encoder": text_encoder("one", "gelu"), "tokenizer": zero}
    parts["unet"] = unet(7, **crossing, use_linear_projection=True)
    parts["low_res_scheduler"] = DDPMScheduler(**betas)
    return StableDiffusionUpscalePipeline(**parts, scheduler=scheduler(prediction_type="v_prediction", **betas))


def build(kind: str, tokenizers: Path) -> Any:
    end, zero = (CLIPTokenizer.from_pretrained(tokenizers / name) for name in ("end", "zero"))
    silent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if kind in ("xl", "refiner"):
        return xl(kind == "refiner", end, zero)
    if kind == "x4":
        return upscaler(zero)
    if kind in ("sd2-v", "depth"):
        predicts = "v_prediction" if kind == "sd2-v" else "epsilon"
        parts = {"text_encoder": text_encoder("one", "gelu"), "tokenizer": zero}
        parts["scheduler"] = scheduler(prediction_type=predicts)
        parts["unet"] = unet(5 if kind == "depth" else 4, use_linear_projection=True, attention_head_dim=(4, 8))
        if kind == "depth":
            blind = {"depth_estimator": None, "feature_extractor": None}
            return StableDiffusionDepth2ImgPipeline(vae=autoencoder(), **parts, **blind)
    else:
        parts = {"text_encoder": text_encoder("one"), "tokenizer": end, "scheduler": scheduler()}
        parts["unet"] = unet(9 if kind == "inpaint" else 4)
    pipeline = StableDiffusionInpaintPipeline if kind == "inpaint" else StableDiffusionPipeline
    return pipeline(vae=autoencoder(), **parts, **silent)


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """A pipeline of a kind ("sd1", "sd2-v", "xl", "refiner", "inpaint", "depth", "x4"), and the folder that it was saved in."""
    root = tmp_path_factory.mktemp("pipelines")
    _write_tokenizer(root / "end", None)
    _write_tokenizer(root / "zero", 0)
    made: dict[str, tuple[Any, Path]] = {}

    def make(kind: str) -> tuple[Any, Path]:
        if kind not in made:
            pipeline = build(kind, root)
            pipeline.set_progress_bar_config(disable=True)
            pipeline.save_pretrained(root / kind)
            made[kind] = pipeline, root / kind
        return made[kind]

    return make
