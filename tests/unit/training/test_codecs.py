"""Stage two and drawing on every kind of codec: a VQ autoencoder, none at all, and one with a decoder for previews."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from undiffuse.checkpoints.api import load_model
from undiffuse.checkpoints.native import save_codec
from undiffuse.core.random import normal
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.build import build_codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import CodecSpec, IdentitySpec, LatentSpec, PreviewSpec, VQSpec
from undiffuse.training.recipe import load_recipe
from undiffuse.training.run import train

Photos = Callable[..., Path]


@pytest.fixture
def stage_two(diffusion_recipe: Path, make_photos: Photos, tmp_path: Path) -> Callable[[str | Path], LatentDiffusion]:
    """Two steps of a denoiser without conditions on this codec."""

    def run(codec: str | Path) -> LatentDiffusion:
        changes = [f"data.path={make_photos(4)}", f"objective.codec={codec}", "conditioners=", "run.steps=2"]
        return load_model(train(load_recipe(diffusion_recipe, changes), tmp_path / "run"))

    return run


def draw(model: LatentDiffusion) -> tuple[int, int]:
    return Generator(model, device="cpu", precision="fp32", tell=None)(Request(steps=2, seed=0)).images[0].size


def test_diffusion_on_pixels(stage_two: Callable[[str | Path], LatentDiffusion]) -> None:
    model = stage_two("pixels")
    assert isinstance(model.spec.codec.autoencoder, IdentitySpec)
    assert (model.codec.factor, model.codec.channels) == (1, 3)
    assert len(model.spec.codec.latent.scale) == 3  # normalised by the statistics of the set, as any latent
    assert draw(model) == (16, 16)


def test_diffusion_on_latents_that_decoding_quantises(
    stage_two: Callable[[str | Path], LatentDiffusion], tmp_path: Path
) -> None:
    sizes = VQSpec(latent_channels=3, widths=(8, 8), blocks=1, mid_attention=False, codes=8)
    spec = CodecSpec(autoencoder=sizes, preview=PreviewSpec(width=4, blocks=1))
    codec = build_codec(spec)
    with torch.no_grad():
        codec.autoencoder.get_parameter("quantizer.codes").copy_(normal((8, 3), "codes"))
    save_codec(codec.autoencoder, spec, tmp_path / "codec", codec.previewer)

    model = stage_two(tmp_path / "codec")
    assert model.spec.codec.autoencoder == sizes and model.spec.codec.latent != LatentSpec()
    assert model.codec.previewer is not None and codec.previewer is not None  # it knows latents that are not normalised
    z = normal((1, 3, 4, 4), "z")
    raw = z / model.codec.scale + model.codec.shift
    torch.testing.assert_close(model.codec.preview(z), codec.previewer(raw).clamp(-1, 1))
    assert draw(model) == (16, 16)
