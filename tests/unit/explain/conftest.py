"""A generator with the tiny model, and models that read other things than words."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from undiffuse.conditioners.boxes import BoxesSpec
from undiffuse.conditioners.clip import CLIPEncoderSpec, CLIPSpec
from undiffuse.conditioners.labels import LabelSpec
from undiffuse.conditioners.maps import MapSpec
from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.small import SmallSpec
from undiffuse.conditioners.text import SketchSpec, TextConditioner, TextSpec
from undiffuse.core.random import normal
from undiffuse.generation.generator import Generator
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec, join_routes


@pytest.fixture(scope="session")
def draw(tiny_model: LatentDiffusion) -> Generator:
    return Generator(tiny_model, device="cpu", precision="fp32", tell=None)


def rebuilt(spec: ModelSpec, parts: list, tokenizer: Tokenizer | None = None) -> LatentDiffusion:
    """The tiny model with other contexts, every weight moved off zero."""
    around = {"channels": spec.codec.autoencoder.latent_channels, "factor": spec.codec.autoencoder.factor}
    parts = [part.model_copy(update={k: v for k, v in around.items() if k in type(part).model_fields}) for part in parts]
    tokens, vector, spatial = join_routes(parts)
    routes = {"context_width": tokens or None, "vector_width": vector or None, "spatial_channels": spatial}
    net = spec.denoiser.model_copy(update=routes)
    raw = spec.model_dump(mode="json") | {"conditioners": [part.model_dump() for part in parts], "denoiser": net}
    model = build_model(ModelSpec.parse(raw), tokenizer)
    with torch.no_grad():
        for name, weight in [*model.denoiser.network.named_parameters(), *model.conditioner.named_parameters()]:
            weight.add_(0.1 * normal(weight.shape, "explain", name))
    return model.eval()


@pytest.fixture(scope="session")
def clip_model(tiny_spec: ModelSpec) -> LatentDiffusion:
    """A model that reads prompts as Stable Diffusion does."""
    return rebuilt(tiny_spec, [CLIPSpec(encoders=(CLIPEncoderSpec(width=16, layers=1, heads=2),))])


@pytest.fixture(scope="session")
def sketching_model(tiny_spec: ModelSpec, tiny_model: LatentDiffusion) -> LatentDiffusion:
    """A model that sketches what words say."""
    text, read = tiny_spec.conditioners[0], tiny_model.conditioner.parts[0]
    assert isinstance(text, TextSpec) and isinstance(read, TextConditioner)
    sketch = SketchSpec(channels=4, side=8, width=16, depth=1, rank=8)
    return rebuilt(tiny_spec, [text.model_copy(update={"sketch": sketch})], read.tokenizer)


@pytest.fixture
def recalling_model(sketching_model: LatentDiffusion) -> LatentDiffusion:
    """The same with a memory of three pictures."""
    text, read = sketching_model.spec.conditioners[0], sketching_model.conditioner.parts[0]
    assert isinstance(text, TextSpec) and isinstance(read, TextConditioner) and text.sketch is not None
    sketch = text.sketch.model_copy(update={"remembered": 3, "key": 4, "traits": 2})
    return rebuilt(sketching_model.spec, [text.model_copy(update={"sketch": sketch})], read.tokenizer)


@pytest.fixture(scope="session")
def spatial_model(tiny_spec: ModelSpec) -> LatentDiffusion:
    """A model that reads classes, boxes, masked pictures, maps and small pictures, and no words."""
    parts = [
        LabelSpec(classes=("fox", "boat"), width=8),
        BoxesSpec(classes=("sun", "tree"), width=16, most=2),
        MaskSpec(),
        MapSpec(classes=("sky", "ground"), width=3),
        SmallSpec(scale=2),
    ]
    return rebuilt(tiny_spec, parts)
