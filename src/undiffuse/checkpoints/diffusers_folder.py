"""Folders of diffusers pipelines of Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from undiffuse.checkpoints.diffusers_specs import codec_spec, encoder_spec, schedule_spec, unet_spec
from undiffuse.checkpoints.foreign_tensors import read_tensors
from undiffuse.checkpoints.keys.clip import check_names, from_huggingface
from undiffuse.checkpoints.keys.nets import codec_names, denoiser_names
from undiffuse.checkpoints.single_file import assign, clip_of
from undiffuse.conditioners.base import PartSpec, Surroundings
from undiffuse.conditioners.clip import CLIPSpec
from undiffuse.conditioners.depth import DepthSpec
from undiffuse.conditioners.lowres import LowResSpec
from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.size import SizeSpec
from undiffuse.core.errors import CheckpointError, UnknownFormat, explain
from undiffuse.model.build import build_empty
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec, join_routes

INDEX = "model_index.json"
NETS, TEXTS = ("unet", "vae"), ("text_encoder", "text_encoder_2")
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What the autoencoder's attention was called before 2023."""

LOW_RES = "low_res_scheduler"
ZERO_PAD = "!"  # the token of id 0


def is_diffusers_folder(source: str | Path) -> bool:
    """Whether a folder holds a diffusers pipeline."""
    return (Path(source) / INDEX).is_file()


def load_diffusers_folder(folder: str | Path, variant: str | None = None) -> LatentDiffusion:
    """The model in a diffusers folder, ready for inference, denoiser and autoencoder in the precision of their files.

    Args:
        folder: with model_index.json.
        variant: "fp16" for files named so; whatever is there when left out.

    Raises:
        UnknownFormat: when it is a pipeline of another kind.
        CheckpointError: when files are missing, damaged, or do not hold exactly what their configurations say.
    """
    folder = Path(folder)
    index = _json(folder / INDEX)
    missing = [name for name in ("unet", "vae", "scheduler", "tokenizer") if not index.get(name, [None])[0]]
    if missing and missing != ["tokenizer"]:
        given = f"{folder} is a {index.get('_class_name', 'pipeline')} without {', '.join(missing)}"
        raise UnknownFormat(explain(given, "pipelines of Stable Diffusion 1.x, 2.x and XL are read"))
    spec = _spec(folder, index)
    model = build_empty(spec)
    for part, (net, names) in (("unet", denoiser_names(model, "diffusers")), ("vae", codec_names(model, "diffusers"))):
        tensors = modern_names(weights_of(folder / part, STEMS[part], variant))
        check_names(set(tensors), set(names.values()), str(folder / part))
        assign(net, {ours: tensors[theirs] for ours, theirs in names.items()})
    clip = clip_of(model)
    for part, encoder, wanted in zip(_texts(index), clip.encoders, clip.specs, strict=True):
        tensors = weights_of(folder / part, STEMS[part], variant)
        read = from_huggingface(tensors, wanted.projection is not None)
        assign(encoder, {name: tensor.float() for name, tensor in read.items()})
    return model.eval()


def _texts(index: Mapping[str, Any]) -> list[str]:
    return [name for name in TEXTS if index.get(name, [None])[0]]


def _spec(folder: Path, index: Mapping[str, Any]) -> ModelSpec:
    unet_told = _json(folder / "unet/config.json")
    unet, channels = unet_spec(unet_told)
    codec = codec_spec(_json(folder / "vae/config.json"))
    schedule, prediction = schedule_spec(_json(folder / "scheduler/scheduler_config.json"))
    latent, factor = codec.autoencoder.latent_channels, codec.autoencoder.factor
    large = unet_told.get("addition_embed_type") == "text_time"
    texts = _texts(index)
    encoders = tuple(
        encoder_spec(
            _json(folder / part / "config.json"),
            skip=1 if large else 0,
            normed=not large,
            pooled=large and part == texts[-1],
            pad=_pad(folder / part.replace("text_encoder", "tokenizer")),
        )
        for part in texts
    )
    zeros = large and index.get("force_zeros_for_empty_prompt", True)
    parts: list[PartSpec] = [CLIPSpec(encoders=encoders, null="zeros" if zeros else "encoded")]
    if large:
        scored = bool(index.get("requires_aesthetics_score"))
        told = ("original_size", "crop", "aesthetic") if scored else ("original_size", "crop", "target_size")
        parts.append(SizeSpec(told=told, width=unet_told.get("addition_time_embed_dim", 256)))  # type: ignore[arg-type]
    parts += _beside(channels, latent, _low_res(folder, index, unet_told.get("num_class_embeds")))
    fitted = [part.fitted(Surroundings(latent, factor)) for part in parts]
    tokens, vector, spatial = join_routes(fitted)
    widths = {"context_width": tokens or None, "vector_width": vector or None, "spatial_channels": spatial}
    content = {
        "name": folder.resolve().name,
        "size": int(unet_told.get("sample_size") or 64) * factor,
        "codec": codec,
        "denoiser": unet.model_copy(update=widths),
        "conditioners": fitted,
        "schedule": schedule,
        "prediction": prediction,
    }
    return ModelSpec.parse(content, where=str(folder))


def _low_res(folder: Path, index: Mapping[str, Any], levels: int | None) -> LowResSpec | None:
    """How an upscaler noises small pictures; None of a pipeline that does not.

    Raises:
        UnknownFormat: when the U-Net is told of other levels than there are.
    """
    there = bool((index.get(LOW_RES) or [None])[0])
    if not there and levels is None:
        return None
    schedule = schedule_spec(_json(folder / LOW_RES / "scheduler_config.json"))[0] if there else None
    if schedule is None or schedule.steps != levels:
        given = f"a U-Net with a table of {levels} rows, and {schedule.steps if schedule else 'no'} levels of noise"
        raise UnknownFormat(explain(given, "upscalers have a row a level; classes are not read"))
    return LowResSpec(schedule=schedule, most=index.get("max_noise_level", 350))


def _beside(channels: int, latent: int, low_res: LowResSpec | None) -> list[PartSpec]:
    """What reaches a U-Net beside its latent, by the channels that come in."""
    if low_res is not None and channels == latent + 3:
        return [low_res]
    if channels == latent and low_res is None:
        return []
    if channels == 2 * latent + 1 and low_res is None:
        return [MaskSpec()]
    if channels == latent + 1 and low_res is None:
        return [DepthSpec()]
    kinds = f"{2 * latent + 1} of inpainting models, {latent + 1} of depth models or {latent + 3} of upscalers"
    raise UnknownFormat(explain(f"a U-Net with {channels} channels coming in", f"{latent}, {kinds} are read"))


def _pad(folder: Path) -> int | None:
    """What stands behind the end of a prompt: 0 where the tokenizer pads with "!", else the end token again."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            told = _json(folder / name).get("pad_token")
            token = told.get("content") if isinstance(told, Mapping) else told
            if token is not None:
                return 0 if token == ZERO_PAD else None
    return None


def weights_of(folder: Path, stem: str, variant: str | None = None) -> dict[str, Tensor]:
    """All tensors of a part, from one file or from the shards that an index names."""
    for form in ("safetensors", "bin"):
        base = "pytorch_model" if form == "bin" and stem == "model" else stem
        for middle in [f".{variant}"] if variant else ["", ".fp16", ".bf16"]:
            whole = folder / f"{base}{middle}.{form}"
            if whole.is_file():
                return read_tensors(whole)[0]
            index = folder / f"{base}.{form}.index{middle}.json"
            if index.is_file():
                shards = sorted(set(_json(index)["weight_map"].values()))
                return {name: tensor for shard in shards for name, tensor in read_tensors(folder / shard)[0].items()}
    named = f"{stem}{f'.{variant}' if variant else ''}.safetensors"
    raise CheckpointError(explain(f"{folder} holds no weights", f"{named}, its shards or a .bin file are needed", "fetch it"))


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a part.

    Raises:
        CheckpointError: when it is missing or damaged.
    """
    return _json(folder / "config.json")


def modern_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names that they have today."""
    return {_modern(name): tensor for name, tensor in tensors.items()}


def _modern(name: str) -> str:
    """The name of a tensor today."""
    *modules, kind = name.split(".")
    if "attentions" not in modules or modules[-1] not in OLD_ATTENTION:
        return name
    return ".".join([*modules[:-1], OLD_ATTENTION[modules[-1]], kind])


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(explain(f"{path} is not there", "every part of a pipeline has one", "fetch it")) from None
    except (ValueError, OSError):
        raise CheckpointError(explain(f"{path} is damaged", "a JSON file is needed", "fetch it again")) from None
