"""A Stable Diffusion model as a folder that diffusers loads."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.checkpoints.diffusers_folder import INDEX, LOW_RES, STEMS, TEXTS, ZERO_PAD
from undiffuse.checkpoints.diffusers_specs import codec_config, encoder_config, low_res_config, schedule_config, unet_config
from undiffuse.checkpoints.foreign_tensors import write_tensors
from undiffuse.checkpoints.keys.clip import to_huggingface
from undiffuse.checkpoints.keys.nets import codec_names, denoiser_names
from undiffuse.checkpoints.single_file import clip_of
from undiffuse.conditioners.lowres import LowResSpec
from undiffuse.conditioners.size import SizeConditioner
from undiffuse.core.errors import CheckpointError, SpecError, explain
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.networks.text.bpe import END, MERGES, START, clip_tokenizer

PIPELINES = {
    ("clip",): "StableDiffusionPipeline",
    ("clip", "mask"): "StableDiffusionInpaintPipeline",
    ("clip", "depth"): "StableDiffusionDepth2ImgPipeline",
    ("clip", "lowres"): "StableDiffusionUpscalePipeline",
    ("clip", "size"): "StableDiffusionXLPipeline",
    ("clip", "size", "mask"): "StableDiffusionXLInpaintPipeline",
}
"""The pipeline of a model, by the kinds of its conditioners."""

WRITTEN_FOR = "0.30.0"  # the version of diffusers that the folder claims to be of; a later one reads it too
MATRICES = ("to_q", "to_k", "to_v", "0")  # of the autoencoder's attention


def write_diffusers_folder(model: LatentDiffusion, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a Stable Diffusion model as a folder that diffusers loads; it appears whole or not at all.

    Args:
        model: of a family of Stable Diffusion's.
        folder: a new one, or an empty one.
        dtype: of its tensors; as they are when left out.

    Raises:
        SpecError: when the model is of another make.
        CheckpointError: when the folder holds files.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(explain(f"{folder} is not empty", "a new or an empty folder is needed", "name another"))
    spec, clip = model.spec, clip_of(model)
    low_res = next((part for part in spec.conditioners if isinstance(part, LowResSpec)), None)
    numbers = next((part for part in model.conditioner.parts if isinstance(part, SizeConditioner)), None)
    kinds = tuple(part.kind for part in spec.conditioners)
    if kinds not in PIPELINES:
        given = f"{spec.name} reads {', '.join(kinds)}"
        raise SpecError(explain(given, "no pipeline of diffusers reads all of that", "keep it as it is"))
    latent, factor = spec.codec.autoencoder.latent_channels, spec.codec.autoencoder.factor
    configs = {
        "unet": unet_config(spec.denoiser, spec.size // factor, latent, numbers.width if numbers else None),
        "vae": codec_config(spec.codec, spec.size),
    }
    schedule = schedule_config(spec.schedule, spec.prediction)
    fresh = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        index: dict[str, Any] = {
            "_class_name": PIPELINES[kinds],
            "_diffusers_version": WRITTEN_FOR,
            "scheduler": ["diffusers", schedule["_class_name"]],
        }
        _write(fresh / "scheduler/scheduler_config.json", schedule)
        for part, (net, names) in (("unet", denoiser_names(model, "diffusers")), ("vae", codec_names(model, "diffusers"))):
            tensors = {names[ours]: _linear(names[ours], tensor) for ours, tensor in net.state_dict().items()}
            _write_part(fresh / part, configs[part], tensors, STEMS[part], dtype)
            index[part] = ["diffusers", configs[part]["_class_name"]]
        texts = TEXTS[1:] if numbers is not None and len(clip.specs) == 1 else TEXTS
        for part, encoder, told in zip(texts, clip.encoders, clip.specs, strict=False):
            unread = told.skip if told.normed and not told.pooled else 0  # theirs always gives the last layer that there is
            config = encoder_config(told.model_copy(update={"layers": told.layers - unread}))
            cut = tuple(f"layers.{layer}." for layer in range(told.layers - unread, told.layers))
            kept = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith(cut)}
            _write_part(fresh / part, config, to_huggingface(kept), STEMS[part], dtype)
            index[part] = ["transformers", config["architectures"][0]]
            tokenizer = part.replace("text_encoder", "tokenizer")
            _write_tokenizer(fresh / tokenizer, told.pad)
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
        if "depth" in kinds:
            index |= {"depth_estimator": [None, None], "feature_extractor": [None, None]}
        elif low_res is not None:
            _write(fresh / LOW_RES / "scheduler_config.json", low_res_config(low_res.schedule))
            index |= {LOW_RES: ["diffusers", "DDPMScheduler"], "max_noise_level": low_res.most}
            index |= {part: [None, None] for part in ("safety_checker", "feature_extractor", "watermarker")}
        elif numbers is None:
            index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
        else:
            index["force_zeros_for_empty_prompt"] = clip.zeros
        _write(fresh / INDEX, index)
        if folder.exists():
            folder.rmdir()
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _linear(name: str, tensor: Tensor) -> Tensor:
    """The autoencoder's attention as matrices, which diffusers has where the original has kernels of 1x1."""
    attention = ".attentions." in name and ".transformer_blocks." not in name and name.split(".")[-2] in MATRICES
    return tensor[:, :, 0, 0] if attention and tensor.ndim == 4 else tensor


def _write_part(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], stem: str, dtype: torch.dtype | None
) -> None:
    _write(folder / "config.json", config)
    cast = {name: tensor.to(dtype=dtype).contiguous() for name, tensor in tensors.items()}
    write_tensors(cast, folder / f"{stem}.safetensors")


def _write_tokenizer(folder: Path, pad: int | None) -> None:
    """CLIP's vocabulary in the files that transformers reads."""
    packed = resources.files("undiffuse").joinpath("vocabularies", "clip_bpe.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]
    marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END if pad is None else ZERO_PAD}
    _write(folder / "vocab.json", clip_tokenizer().get_vocab())
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    _write(folder / "special_tokens_map.json", marks)
    _write(folder / "tokenizer_config.json", {**marks, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
