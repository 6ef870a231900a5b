"""Do our nets equal those of diffusers and transformers in full size? Random weights, float32, one net at a time.

python benchmarks/parity_full_size.py [NET ...] [--side 32]

Needs the extra `dev`. XL's U-Net takes 11 GiB; both nets of a pair share their weights. The exit status tells whether
every relative error, the largest difference by the largest value, is within 1e-5.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from undiffuse.checkpoints.keys.clip import from_huggingface
from undiffuse.checkpoints.keys.nets import codec_names, denoiser_names
from undiffuse.checkpoints.single_file import assign
from undiffuse.conditioners.clip import CLIPConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import normal
from undiffuse.model.build import build_empty
from undiffuse.model.families import family
from undiffuse.networks.embeddings import sinusoid

GOAL = 1e-5
FOUR = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
SD2 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
XL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2, 10),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
CLIPS: dict[str, dict[str, Any]] = {
    "clip-l": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "openclip-h": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
    "openclip-bigg": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "hidden_act": "gelu",
        "projection_dim": 1280,
    },
}


class Answers(NamedTuple):
    """What both give for the same input, by what it is, and the parameters of the net."""

    pairs: list[tuple[str, Tensor, Tensor]]
    parameters: int


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """A net without weights yet."""
    with torch.device("meta"):
        return make().eval()


def random_weights(net: nn.Module) -> dict[str, Tensor]:
    """Numbers for every tensor that keep activations near 1: matrices by their fan-in, the rest near what nets begin with."""
    found = {}
    for name, tensor in net.state_dict().items():
        if not tensor.is_floating_point():
            continue
        drawn = normal(tuple(tensor.shape), "full size", name)
        if tensor.ndim > 1:
            found[name] = drawn / tensor[0].numel() ** 0.5
        else:
            found[name] = 0.1 * drawn + float(name.endswith("weight"))
    return found


def fill(net: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The net with these weights, not copied."""
    net.load_state_dict(weights, strict=False, assign=True)
    left = [name for name, tensor in net.named_parameters() if tensor.is_meta]
    if left:
        raise SystemExit(f"without weights: {left[:5]}")
    return net.eval().requires_grad_(False)


def unet(name: str, config: dict[str, Any], side: int, vector: int = 0) -> Answers:
    """The U-Net of a family, at batch 2 and two times."""
    theirs = on_meta(lambda: UNet2DConditionModel(in_channels=4, out_channels=4, **config))
    weights = random_weights(theirs)
    fill(theirs, weights)
    net, names = denoiser_names(build_empty(family(name)), "diffusers")
    assign(net, {ours: weights[other] for ours, other in names.items()})
    x, t = normal((2, 4, side, side), name, "x"), torch.tensor([3.0, 981.0])
    words = normal((2, 77, config["cross_attention_dim"]), name, "words")
    more: dict[str, Any] = {}
    pooled = numbers = None
    if vector:
        pooled = normal((2, vector - 6 * 256), name, "pooled")
        numbers = torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024], [768.0, 512, 16, 8, 1024, 1024]])
        more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": numbers}
    expected = theirs(x, t, words, **more).sample  # type: ignore[operator]
    told = None
    if pooled is not None and numbers is not None:
        told = torch.cat([pooled, sinusoid(numbers.flatten(), 256).view(2, -1)], dim=1)
    given = net(x, t, Conditioning(tokens=words, vector=told))
    return Answers([("prediction", given, expected)], sum(p.numel() for p in net.parameters()))


def vae(side: int) -> Answers:
    """The autoencoder of SD 1.x, both ways."""
    theirs = on_meta(lambda: AutoencoderKL(**VAE))
    weights = random_weights(theirs)
    fill(theirs, weights)
    codec, names = codec_names(build_empty(family("sd1")), "diffusers")
    assign(codec, {ours: weights[other] for ours, other in names.items()})
    x, z = normal((1, 3, 8 * side, 8 * side), "vae", "x"), normal((1, 4, side, side), "vae", "z")
    pairs = [
        ("mean", codec.encode(x)[0], theirs.encode(x).latent_dist.mean),  # type: ignore[operator]
        ("picture", codec.decode(z), theirs.decode(z).sample),  # type: ignore[operator]
    ]
    return Answers(pairs, sum(p.numel() for p in codec.parameters()))


def clip(name: str, families: str, place: int) -> Answers:
    """A text encoder, its last and its last but one layer, and the pooled vector where there is one."""
    projected = "projection_dim" in CLIPS[name]
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    theirs = kind(CLIPTextConfig(**CLIPS[name])).eval().requires_grad_(False)
    weights = random_weights(theirs)
    theirs.load_state_dict(weights, strict=False)
    part = next(part for part in build_empty(family(families)).conditioner.parts if isinstance(part, CLIPConditioner))
    encoder, spec = part.encoders[place], part.specs[place]
    assign(encoder, from_huggingface(theirs.state_dict(), spec.projection is not None))
    ids = torch.randint(3, 49000, (2, 77), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[0, 9:], ids[1, 40:] = 49406, 49407, 49407
    answer = theirs(ids, output_hidden_states=True)
    inner = theirs.text_model if hasattr(theirs, "text_model") else theirs
    hidden, pooled = encoder(ids, skip=spec.skip, normed=spec.normed)
    expected = answer.hidden_states[-1 - spec.skip]
    expected = inner.final_layer_norm(expected) if spec.normed else expected
    pairs = [("tokens", hidden, expected)]
    if pooled is not None and projected:
        pairs.append(("pooled", pooled, answer.text_embeds))
    return Answers(pairs, sum(p.numel() for p in encoder.parameters()))


def nets(side: int) -> dict[str, Callable[[], Answers]]:
    """What can be compared, by name."""
    return {
        "clip-l": lambda: clip("clip-l", "sd1", 0),
        "openclip-h": lambda: clip("openclip-h", "sd2-base", 0),
        "openclip-bigg": lambda: clip("openclip-bigg", "sdxl-base", 1),
        "vae": lambda: vae(side),
        "unet-sd1": lambda: unet("sd1", {"cross_attention_dim": 768, "attention_head_dim": 8}, side),
        "unet-sd2": lambda: unet("sd2-base", SD2, side),
        "unet-xl": lambda: unet("sdxl-base", XL, side, 2816),
    }


def compared(chosen: dict[str, Callable[[], Answers]]) -> Iterator[float]:
    """The relative errors, each printed as it is known."""
    for name, compare in chosen.items():
        start = time.perf_counter()
        with torch.no_grad():
            pairs, parameters = compare()
        for what, ours, theirs in pairs:
            error = float((ours - theirs).abs().max() / theirs.abs().max())
            taken = time.perf_counter() - start
            print(f"{name:14} {parameters / 1e6:8.1f} M  {what:10} {error:9.1e}  {taken:6.1f} s", flush=True)
            yield error
        del pairs
        gc.collect()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"of {', '.join(nets(0))}; all when left out")
    parser.add_argument("--side", type=int, default=32, help="of latents")
    options = parser.parse_args()
    known = nets(options.side)
    unknown = set(options.nets) - set(known)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    worst = max(compared({name: known[name] for name in options.nets or known}))
    print(f"largest relative error {worst:.1e}, goal {GOAL:.0e}")
    sys.exit(worst > GOAL)


if __name__ == "__main__":
    main()
