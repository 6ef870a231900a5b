"""Single files of Stable Diffusion 1.x, 2.x and XL, as CompVis and Stability AI lay them out and most people share them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from undiffuse.checkpoints.detect import ASIDE, EMA, UNET, Found, detect
from undiffuse.checkpoints.foreign_tensors import READ, read_tensors, write_tensors
from undiffuse.checkpoints.keys.clip import check_names, from_huggingface, from_openclip, to_huggingface, to_openclip
from undiffuse.checkpoints.keys.nets import codec_names, denoiser_names
from undiffuse.conditioners.clip import CLIPConditioner
from undiffuse.conditioners.size import SizeConditioner
from undiffuse.core.errors import MissingKeys, ShapeMismatch, SpecError, explain
from undiffuse.model.build import build_empty
from undiffuse.model.families import INPAINTING, family
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec

VAE = "first_stage_model."
HUGGINGFACE, OPENCLIP = "transformer.", "model."  # the layout of a text encoder, in its names
ENCODERS = (f"cond_stage_model.{HUGGINGFACE}", f"cond_stage_model.{OPENCLIP}")
XL_ENCODERS = re.compile(r"conditioner\.embedders\.(\d)\.(transformer|model)\.")
HARMLESS = re.compile(
    r"model_ema\.|betas$|alphas_cumprod|sqrt_|log_one_minus|posterior_|logvar$|scale_factor$|denoiser\.sigmas$|ddim_|lvlb_weights$"
    r"|low_scale_model\.(betas$|alphas_cumprod|sqrt_|log_one_minus)|.*\.loss\.|loss\.|.*logit_scale$|.*position_ids$|.*\.visual\.|.*attn_mask$|embedding_manager\.|.*text_projection(\.weight)?$"
)
"""What a checkpoint may hold beside the weights: schedules, which are computed, averages, losses, and CLIP's other half."""

WEIGHTS = ("plain", "ema")
FOREIGN = ("clip", "size", "mask", "depth", "lowres")
"""Kinds of conditioners that layouts of others have a place for."""
SHOWN = 8


def is_single_file(source: str | Path) -> bool:
    """Whether this is a file of a kind that may hold a checkpoint."""
    path = Path(source)
    return path.suffix.lower() in READ and path.is_file()


def load_single_file(path: str | Path, prediction: str | None = None, weights: str = "plain") -> LatentDiffusion:
    """The model in a single file, ready for inference, denoiser and autoencoder in the precision of the file.

    Args:
        path: .safetensors, .ckpt or another pickle of tensors.
        prediction: "eps" or "v"; needed for SD 2.x, whose files do not tell.
        weights: "plain", or "ema" for the averaged ones that some files hold as well.

    Raises:
        CheckpointError: when the file is damaged, of another kind, or does not hold exactly what its family needs.
        SpecError: when the prediction is not known, or the weights that are asked for are not there.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    found = detect({name: tuple(tensor.shape) for name, tensor in tensors.items()}, metadata)
    spec = _spec(found, path, prediction)
    if weights not in WEIGHTS or (weights == "ema" and not found.ema):
        given = f"weights = {weights!r}"
        raise SpecError(explain(given, f"{path.name} holds {'plain and ema' if found.ema else 'plain'} weights", "name one"))
    return fill(spec, _averaged(tensors) if weights == "ema" else tensors)


def _spec(found: Found, path: Path, prediction: str | None) -> ModelSpec:
    told = prediction or found.prediction or _beside(path)
    if told is None:
        given = f"{path.name} is of SD 2.x, and nothing tells whether it predicts eps or v"
        remedy = "name it: 'undiffuse convert FILE --prediction v', or lay the .yaml that came with the file beside it"
        raise SpecError(explain(given, "2.x files of both kinds look alike", remedy))
    if told not in ("eps", "v"):
        raise SpecError(explain(f"prediction = {told!r}", "eps and v are allowed"))
    name = {"eps": "sd2-base", "v": "sd2-v"}[told] if found.family == "sd2" else found.family
    spec = family(name + INPAINTING if found.inpainting else name)
    return ModelSpec.parse(spec.model_dump() | {"prediction": told, "name": path.stem}, where=str(path))


def _beside(path: Path) -> str | None:
    """What a .yaml beside the file, the original's configuration, says of the prediction."""
    config = path.with_suffix(".yaml")
    if not config.is_file():
        return None
    found = re.search(r"parameterization:\s*[\"']?(\w+)", config.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else "eps"  # the original's default


def fill(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> LatentDiffusion:
    """A model of this spec with the tensors of a checkpoint in the original's layout: all of them, or an error.

    Raises:
        MissingKeys: listing what is missing and what there is no place for.
        ShapeMismatch: listing tensors of other shapes.
    """
    model = build_empty(spec)
    parts: list[tuple[nn.Module, dict[str, Tensor]]] = []
    aside = tuple(f"{part}." for part in ASIDE) if any(part.kind == "depth" for part in spec.conditioners) else ()
    left = {name for name in tensors if not HARMLESS.match(name) and not name.startswith(aside)}
    nets = {UNET: denoiser_names(model, "compvis"), VAE: codec_names(model, "compvis")}
    for leading, (net, names) in nets.items():
        there = {name.removeprefix(leading) for name in left if name.startswith(leading)}
        check_names(there, set(names.values()), leading.rstrip("."))
        parts.append((net, {ours: tensors[leading + theirs] for ours, theirs in names.items()}))
        left -= {leading + name for name in there}
    clip = clip_of(model)
    for place, (wanted, encoder) in enumerate(zip(clip.specs, clip.encoders, strict=True)):
        leading = _encoder_prefix(left, place)
        inside = {name.removeprefix(leading): tensors[name] for name in tensors if leading and name.startswith(leading)}
        read_names = from_huggingface if leading.endswith(HUGGINGFACE) else from_openclip
        read = read_names(inside, wanted.projection is not None)
        parts.append((encoder, {name: tensor.float() for name, tensor in read.items()}))
        left -= {leading + name for name in inside}
    if left:
        raise MissingKeys(explain(f"unknown: {_named(left)}", "a checkpoint holds U-Net, autoencoder and text encoders"))
    for net, state in parts:
        assign(net, state)
    return model.eval()


def assign(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a net its tensors without a copy; maps of 1x1 may come as matrices and the other way round.

    Raises:
        MissingKeys, ShapeMismatch: listing what does not fit.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    check_names(set(state), set(wanted), "this net")
    fitted = {name: _fitted(tensor, wanted[name]) for name, tensor in state.items()}
    wrong = [f"{n} {tuple(t.shape)} for {wanted[n]}" for n, t in fitted.items() if tuple(t.shape) != wanted[n]]
    if wrong:
        raise ShapeMismatch(explain(f"other shapes: {_named(wrong)}", "shapes must be those of the family"))
    net.load_state_dict(fitted, assign=True)


def _fitted(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A matrix as a kernel of 1x1, or back, where that is the whole difference."""
    same = [side for side in tensor.shape if side != 1] == [side for side in shape if side != 1]
    return tensor.reshape(shape) if same and {tensor.ndim, len(shape)} == {2, 4} else tensor


def _encoder_prefix(names: set[str], place: int) -> str:
    """What the names of text encoder `place` begin with; nothing when there is none."""
    numbered = {match[0]: int(match[1]) for name in names if (match := XL_ENCODERS.match(name))}
    if numbered:
        return next((prefix for prefix, number in numbered.items() if number == place), "")
    return next((prefix for prefix in ENCODERS if any(name.startswith(prefix) for name in names)), "")


def to_single_file(model: LatentDiffusion) -> dict[str, Tensor]:
    """The tensors of a Stable Diffusion model under the names of the original's layout.

    Raises:
        SpecError: when the model is of another make, for which there are no such names.
    """
    clip = clip_of(model)
    found = {}
    for leading, (net, names) in ((UNET, denoiser_names(model, "compvis")), (VAE, codec_names(model, "compvis"))):
        found |= {leading + names[ours]: tensor for ours, tensor in net.state_dict().items()}
    numbered = any(isinstance(part, SizeConditioner) for part in model.conditioner.parts)
    for place, (spec, encoder) in enumerate(zip(clip.specs, clip.encoders, strict=True)):
        leading = f"conditioner.embedders.{place}." if numbered else "cond_stage_model."
        state = encoder.state_dict()
        if spec.pad == 0:
            found |= {f"{leading}{OPENCLIP}{name}": tensor for name, tensor in to_openclip(state).items()}
        else:
            found |= {f"{leading}{HUGGINGFACE}{name}": tensor for name, tensor in to_huggingface(state).items()}
    return found


def write_single_file(model: LatentDiffusion, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write a Stable Diffusion model as one .safetensors file; it appears whole or not at all.

    Args:
        model: of a family of Stable Diffusion's.
        path: of the file.
        dtype: of its tensors; as they are when left out.

    Raises:
        SpecError: when the model is of another make.
    """
    tensors = {name: tensor.to(dtype=dtype).contiguous() for name, tensor in to_single_file(model).items()}
    told = {"eps": "epsilon", "v": "v"}.get(model.spec.prediction, model.spec.prediction)
    write_tensors(tensors, path, {"modelspec.predict_key": told, "modelspec.title": model.spec.name})


def clip_of(model: LatentDiffusion) -> CLIPConditioner:
    """The text side of a Stable Diffusion model.

    Raises:
        SpecError: when the model has none, or more than layouts of others have a place for.
    """
    foreign = [spec.kind for spec in model.spec.conditioners if spec.kind not in FOREIGN]
    clip = next((part for part in model.conditioner.parts if isinstance(part, CLIPConditioner)), None)
    if clip is None or foreign or model.spec.codec.autoencoder.kind != "kl":
        given = f"{model.spec.name} reads {', '.join(part.kind for part in model.spec.conditioners) or 'nothing'}"
        raise SpecError(
            explain(given, "layouts of Stable Diffusion hold CLIP, masks, depth maps and small pictures", "keep it as it is")
        )
    return clip


def _averaged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the U-Net's averages in the place of its weights; averages lost the dots of their names."""
    plain = {name.removeprefix(UNET).replace(".", ""): name for name in tensors if name.startswith(UNET)}
    averages = {name.removeprefix(EMA): tensor for name, tensor in tensors.items() if name.startswith(EMA)}
    check_names(set(averages), set(plain), "the averages of the U-Net")
    return {**tensors, **{plain[name]: tensor for name, tensor in averages.items()}}


def _named(names: set[str] | list[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:SHOWN]) + (f" and {len(some) - SHOWN} more" if len(some) > SHOWN else "")
