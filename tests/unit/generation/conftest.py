"""Tiny models that make sketches of what words say, and that fill holes."""

from __future__ import annotations

import pytest

from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.text import SketchSpec, TextConditioner, TextSpec
from undiffuse.generation.generator import Generator
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec, UsualSpec


@pytest.fixture
def sketched(tiny_spec: ModelSpec, tiny_model: LatentDiffusion) -> Generator:
    """The tiny model with a sketcher that knows nothing."""
    text, read = tiny_spec.conditioners[0], tiny_model.conditioner.parts[0]
    assert isinstance(text, TextSpec) and isinstance(read, TextConditioner)
    parts = [text.model_copy(update={"sketch": SketchSpec(channels=4, side=8, width=16, depth=1, rank=8)})]
    denoiser = tiny_spec.denoiser.model_copy(update={"spatial_channels": 4, "vector_width": 16})
    spec = tiny_spec.model_copy(update={"conditioners": tuple(parts), "denoiser": denoiser})
    return Generator(build_model(spec, read.tokenizer), device="cpu", precision="fp32", tell=None)


@pytest.fixture
def filling(tiny_spec: ModelSpec, tiny_model: LatentDiffusion) -> Generator:
    """The tiny model with inputs for holes, and with a usual way to be drawn with."""
    text, read = tiny_spec.conditioners[0], tiny_model.conditioner.parts[0]
    assert isinstance(text, TextSpec) and isinstance(read, TextConditioner)
    denoiser = tiny_spec.denoiser.model_copy(update={"spatial_channels": 5, "vector_width": 16})
    told = {"conditioners": (text, MaskSpec(channels=4, factor=2)), "denoiser": denoiser}
    told["usual"] = UsualSpec(steps=3, guidance=2, sketch=0.4)
    return Generator(build_model(tiny_spec.model_copy(update=told), read.tokenizer), device="cpu", precision="fp32", tell=None)


@pytest.fixture
def recalling(tiny_spec: ModelSpec, tiny_model: LatentDiffusion) -> Generator:
    """The tiny model with inputs for holes, with a memory of two pictures, and a usual way to be drawn with."""
    text, read = tiny_spec.conditioners[0], tiny_model.conditioner.parts[0]
    assert isinstance(text, TextSpec) and isinstance(read, TextConditioner)
    sketch = SketchSpec(channels=4, side=8, width=16, depth=1, rank=8, remembered=2, key=4, traits=1)
    denoiser = tiny_spec.denoiser.model_copy(update={"spatial_channels": 9, "vector_width": 16})
    told = {"conditioners": (text.model_copy(update={"sketch": sketch}), MaskSpec(channels=4, factor=2)), "denoiser": denoiser}
    told["usual"] = UsualSpec(steps=3, guidance=2, sketch=0.4)
    return Generator(build_model(tiny_spec.model_copy(update=told), read.tokenizer), device="cpu", precision="fp32", tell=None)
