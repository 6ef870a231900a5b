"""Configurations of a diffusers folder as our specs, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from undiffuse.conditioners.clip import CLIPEncoderSpec
from undiffuse.core.errors import SpecError, UnknownFormat, explain
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.model.spec import AutoencoderSpec, CodecSpec, LatentSpec, UNetSpec

Config = Mapping[str, Any]

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
CROSS, PLAIN = "CrossAttn", ""


def unet_spec(config: Config) -> tuple[UNetSpec, int]:
    """The U-Net of `unet/config.json`, and the channels that come in; widths of contexts are left open.

    Raises:
        UnknownFormat: when it has something that ours has not.
    """
    widths, kinds = config["block_out_channels"], config["down_block_types"]
    strange = next((kind for kind in kinds if kind not in ("CrossAttnDownBlock2D", "DownBlock2D")), None)
    crosses = _each(config.get("only_cross_attention", False), len(widths))
    crossing_middle = config.get("mid_block_only_cross_attention") or config.get("only_cross_attention") is True
    if strange is not None or config.get("class_embed_type") or config.get("encoder_hid_dim_type") or crossing_middle:
        given = f"a U-Net with {strange or 'class or image embeddings, or no self-attention at all'}"
        raise UnknownFormat(explain(given, "those of Stable Diffusion 1.x, 2.x and XL are read"))
    layers = _each(config.get("transformer_layers_per_block", 1), len(widths))
    depths = [layer if kind.startswith(CROSS) else 0 for layer, kind in zip(layers, kinds, strict=True)]
    heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)  # of old, the second holds the first
    sizes: dict[str, Any] = {"heads": heads} if isinstance(heads, int) else {"head_width": widths[0] // heads[0]}
    natural = next((depth for depth in reversed(depths) if depth), 0)
    spec = UNetSpec(
        widths=tuple(widths),
        blocks=config.get("layers_per_block", 2),
        depths=tuple(depths),
        mid_depth=None if layers[-1] == natural else layers[-1],
        linear_projection=bool(config.get("use_linear_projection")),
        vector_embedding="table" if config.get("num_class_embeds") else "mlp",
        cross_only=tuple(level for level, depth in enumerate(depths) if depth and crosses[level]),
        **sizes,
    )
    return spec, int(config["in_channels"])


def unet_config(spec: UNetSpec, size: int, latent: int, number_width: int | None) -> dict[str, Any]:
    """`unet/config.json` of our U-Net.

    Args:
        spec: the U-Net's.
        size: side of a latent.
        latent: its channels.
        number_width: features of each of XL's numbers; None without them.
    """
    levels = [bool(depth) for depth in spec.depths]
    heads = [width // spec.head_width for width in spec.widths] if spec.head_width else spec.heads
    middle = spec.mid_depth if spec.mid_depth is not None else next((d for d in reversed(spec.depths) if d), 1)
    layers = [depth or 1 for depth in spec.depths]
    layers[-1] = middle if not levels[-1] else layers[-1]
    config = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": size,
        "in_channels": latent + spec.spatial_channels,
        "out_channels": latent,
        "block_out_channels": list(spec.widths),
        "layers_per_block": spec.blocks,
        "down_block_types": ["CrossAttnDownBlock2D" if level else "DownBlock2D" for level in levels],
        "up_block_types": ["CrossAttnUpBlock2D" if level else "UpBlock2D" for level in reversed(levels)],
        "attention_head_dim": heads,
        "cross_attention_dim": spec.context_width,
        "transformer_layers_per_block": layers,
        "use_linear_projection": spec.linear_projection,
    }
    if spec.cross_only:
        config["only_cross_attention"] = [level in spec.cross_only for level in range(len(spec.widths))]
    if spec.vector_embedding == "table":
        config["num_class_embeds"] = spec.vector_width
    if number_width:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": number_width,
            "projection_class_embeddings_input_dim": spec.vector_width,
        }
    return config


def codec_spec(config: Config) -> CodecSpec:
    """The autoencoder of `vae/config.json` with the scale of its latents."""
    autoencoder = AutoencoderSpec(
        latent_channels=config["latent_channels"],
        widths=tuple(config["block_out_channels"]),
        blocks=config.get("layers_per_block", 1),
        mid_attention=config.get("mid_block_add_attention", True),
    )
    scale, shift = config.get("scaling_factor", 0.18215), config.get("shift_factor") or 0.0
    return CodecSpec(autoencoder=autoencoder, latent=LatentSpec(scale=(scale,), shift=(shift,)))


def codec_config(spec: CodecSpec, size: int) -> dict[str, Any]:
    """`vae/config.json` of our autoencoder for pictures of this side.

    Raises:
        SpecError: when theirs cannot be like it.
    """
    net = spec.autoencoder
    whole = isinstance(net, AutoencoderSpec) and net.patch == 1 and not (net.shortcut or net.attention_levels)
    if not isinstance(net, AutoencoderSpec) or not whole or len(set(spec.latent.scale) | set(spec.latent.shift)) > 2:
        raise SpecError(
            explain("this autoencoder", "one of Stable Diffusion's make fits a diffusers folder", "keep it as it is")
        )
    count = len(net.widths)
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": size,
        "in_channels": net.in_channels,
        "out_channels": net.in_channels,
        "latent_channels": net.latent_channels,
        "block_out_channels": list(net.widths),
        "layers_per_block": net.blocks,
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "up_block_types": ["UpDecoderBlock2D"] * count,
        "mid_block_add_attention": net.mid_attention,
        "scaling_factor": spec.latent.scale[0],
        **({"shift_factor": spec.latent.shift[0]} if spec.latent.shift[0] else {}),
    }


def encoder_spec(config: Config, *, skip: int, normed: bool, pooled: bool, pad: int | None) -> CLIPEncoderSpec:
    """The text encoder of `text_encoder/config.json`; a projection counts if it is pooled."""
    config = config.get("text_config", config)
    return CLIPEncoderSpec(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        positions=config.get("max_position_embeddings", 77),
        activation=config.get("hidden_act", "quick_gelu"),
        projection=config.get("projection_dim") if pooled else None,
        skip=skip,
        normed=normed,
        pooled=pooled,
        pad=pad,
    )


def encoder_config(spec: CLIPEncoderSpec) -> dict[str, Any]:
    """`text_encoder/config.json` of our encoder."""
    return {
        "architectures": ["CLIPTextModelWithProjection" if spec.projection else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": spec.vocabulary,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden or 4 * spec.width,
        "max_position_embeddings": spec.positions,
        "hidden_act": spec.activation,
        "projection_dim": spec.projection or spec.width,
        "bos_token_id": spec.vocabulary - 2,
        "eos_token_id": spec.vocabulary - 1,
        "pad_token_id": 1,
    }


def schedule_spec(config: Config) -> tuple[ScheduleSpec, str]:
    """The schedule of `scheduler/scheduler_config.json`, and what is predicted.

    Raises:
        UnknownFormat: when there is none of its kind.
    """
    kind, prediction = config.get("beta_schedule", "linear"), config.get("prediction_type", "epsilon")
    if kind not in SCHEDULES or prediction not in PREDICTIONS:
        given = f"a schedule {kind!r} with prediction {prediction!r}"
        raise UnknownFormat(explain(given, f"read are {', '.join(SCHEDULES)} with {', '.join(PREDICTIONS)}"))
    spec = ScheduleSpec(
        kind=SCHEDULES[kind],  # type: ignore[arg-type]
        beta_start=config.get("beta_start", 0.0001),
        beta_end=config.get("beta_end", 0.02),
        steps=config.get("num_train_timesteps", 1000),
        zero_terminal_snr=bool(config.get("rescale_betas_zero_snr")),
    )
    return spec, PREDICTIONS[prediction]


def schedule_config(spec: ScheduleSpec, prediction: str) -> dict[str, Any]:
    """`scheduler/scheduler_config.json`, of Euler's method, for our schedule.

    Raises:
        SpecError: when there is no such schedule in diffusers.
    """
    kinds, told = {ours: theirs for theirs, ours in SCHEDULES.items()}, {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if spec.kind not in kinds or prediction not in told:
        given = f"schedule {spec.kind!r} with prediction {prediction!r}"
        raise SpecError(
            explain(given, f"a diffusers folder holds {', '.join(kinds)} with {', '.join(told)}", "keep it as it is")
        )
    return {
        "_class_name": "EulerDiscreteScheduler",
        "beta_schedule": kinds[spec.kind],
        "beta_start": spec.beta_start,
        "beta_end": spec.beta_end,
        "num_train_timesteps": spec.steps,
        "prediction_type": told[prediction],
        "rescale_betas_zero_snr": spec.zero_terminal_snr,
        "timestep_spacing": "leading",
        "steps_offset": 1,
    }


def low_res_config(spec: ScheduleSpec) -> dict[str, Any]:
    """`low_res_scheduler/scheduler_config.json`, which noises small pictures, for their schedule."""
    kinds = {ours: theirs for theirs, ours in SCHEDULES.items()}
    return {
        "_class_name": "DDPMScheduler",
        "beta_schedule": kinds[spec.kind],
        "beta_start": spec.beta_start,
        "beta_end": spec.beta_end,
        "num_train_timesteps": spec.steps,
        "rescale_betas_zero_snr": spec.zero_terminal_snr,
    }


def _each(value: int | Sequence[int], count: int) -> list[int]:
    return [value] * count if isinstance(value, int) else list(value)
