"""A codec keeps the precision of what it is given, whatever that of its weights."""

from __future__ import annotations

import pytest
import torch

from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.model.build import build_codec
from undiffuse.model.spec import ModelSpec


def test_weights_in_bf16_take_and_give_float32(tiny_spec: ModelSpec) -> None:
    codec = build_codec(tiny_spec.codec).requires_grad_(False)
    pixels = normal((2, 3, 16, 16), "test").clamp(-1, 1)
    exact = codec(pixels)

    codec.autoencoder.to(torch.bfloat16)
    z, rebuilt = codec.encode(pixels), codec(pixels)

    assert z.dtype == rebuilt.dtype == torch.float32
    assert torch.allclose(rebuilt, exact, atol=0.05)


def test_sides_that_do_not_divide_are_refused(tiny_spec: ModelSpec) -> None:
    with pytest.raises(SpecError, match="multiples of 2"):
        build_codec(tiny_spec.codec).encode(torch.zeros(1, 3, 16, 17))
