"""The codec: normalised latents and back, in whatever precision it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from undiffuse.checkpoints.api import load_codec
from undiffuse.checkpoints.native import save_codec
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal, uniform
from undiffuse.model.build import build_codec
from undiffuse.model.codec import Codec
from undiffuse.model.spec import AutoencoderSpec, CodecSpec, IdentitySpec, LatentSpec, VQSpec
from undiffuse.networks.autoencoder import Autoencoder
from undiffuse.networks.quantizer import VQAutoencoder
from undiffuse.networks.resting import rest, working_dtype


class Exact(Autoencoder):
    """An autoencoder that loses nothing: 2 x 2 pixels folded into 12 channels."""

    def __init__(self) -> None:
        super().__init__(latent_channels=12, widths=(8,), blocks=1, patch=2, mid_attention=False)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.nn.functional.pixel_unshuffle(x, 2)
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        return torch.nn.functional.pixel_shuffle(z, 2)


@pytest.fixture
def codec() -> Codec:
    shift, scale = torch.linspace(-1, 2, 12), torch.logspace(-1, 1, 12)
    return Codec(Exact(), shift, scale, factor=2, channels=12)


@pytest.fixture
def pixels() -> Tensor:
    return 2 * uniform((3, 3, 4, 6), "codec") - 1


def test_the_normalisation_is_undone_by_decoding(codec: Codec, pixels: Tensor) -> None:
    torch.testing.assert_close(codec(pixels), pixels)


def test_latents_are_shifted_then_scaled_channel_by_channel(codec: Codec, pixels: Tensor) -> None:
    mean, _ = codec.autoencoder.encode(pixels)
    z = codec.encode(pixels)
    for channel in range(12):
        expected = (mean[:, channel] - codec.shift.flatten()[channel]) * codec.scale.flatten()[channel]
        torch.testing.assert_close(z[:, channel], expected)


def test_statistics_of_a_set_make_its_latents_standard(pixels: Tensor) -> None:
    mean, _ = Exact().encode(pixels)
    shift, std = mean.mean((0, 2, 3)), mean.std((0, 2, 3))
    z = Codec(Exact(), shift, 1 / std, factor=2, channels=12).encode(pixels)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(12), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(12))


def test_decoded_pictures_stay_in_range(codec: Codec) -> None:
    decoded = codec.decode(100 * normal((1, 12, 2, 2), "codec"))
    assert decoded.min() == -1
    assert decoded.max() == 1


@pytest.mark.parametrize("size", [(5, 4), (4, 5)])
def test_sides_that_do_not_divide_are_refused(codec: Codec, size: tuple[int, int]) -> None:
    with pytest.raises(SpecError, match="cannot be encoded; both sides must be multiples of 2; resize or crop it"):
        codec.encode(torch.zeros(1, 3, *size))


def test_one_number_may_stand_for_all_channels(pixels: Tensor) -> None:
    spec = AutoencoderSpec(latent_channels=4, widths=(8, 8), blocks=1, mid_attention=False)
    codec = build_codec(CodecSpec(autoencoder=spec, latent=LatentSpec(shift=(0.5,), scale=(2.0,))))
    torch.testing.assert_close(codec.encode(pixels), (codec.autoencoder.encode(pixels)[0] - 0.5) * 2)


def test_the_normalisation_is_not_among_the_weights(codec: Codec) -> None:
    assert codec.state_dict().keys() == {f"autoencoder.{name}" for name in codec.autoencoder.state_dict()}


@torch.no_grad()
def test_a_vq_codec_works_on_latents_before_they_are_quantised(pixels: Tensor) -> None:
    spec = VQSpec(latent_channels=2, widths=(8, 8), blocks=1, mid_attention=False, codes=5)
    torch.manual_seed(0)
    codec = build_codec(CodecSpec(autoencoder=spec, latent=LatentSpec(scale=(2.0,))))
    net = codec.autoencoder
    assert isinstance(net, VQAutoencoder)
    net.quantizer.codes.copy_(normal((5, 2), "codes"))
    z = codec.encode(pixels)
    torch.testing.assert_close(z / 2, net.encode(pixels)[0])
    assert len(net.quantizer.nearest(z / 2).unique()) > 1
    codes = net.quantizer.look_up(net.quantizer.nearest(z / 2))
    torch.testing.assert_close(codec.decode(z), codec.decode(2 * codes))  # both mean the same codes
    torch.testing.assert_close(codec(pixels), net(pixels)[0].clamp(-1, 1))


def test_without_an_autoencoder_latents_are_pictures(pixels: Tensor, tmp_path: Path) -> None:
    spec = CodecSpec(autoencoder=IdentitySpec(), latent=LatentSpec(shift=(0.25,), scale=(2.0,)))
    save_codec(build_codec(spec).autoencoder, spec, tmp_path / "pixels")
    codec, found = load_codec(tmp_path / "pixels")
    assert found == spec and (codec.factor, codec.channels) == (1, 3)
    assert torch.equal(codec.encode(pixels), (pixels - 0.25) * 2)
    torch.testing.assert_close(codec(pixels), pixels)
    assert load_codec("pixels")[1] == CodecSpec(autoencoder=IdentitySpec())


def test_a_codec_in_bf16_answers_in_float32(pixels: Tensor) -> None:
    codec = build_codec(CodecSpec(autoencoder=AutoencoderSpec(latent_channels=4, widths=(32, 32), blocks=1)))
    exact = codec(pixels)
    codec.autoencoder.to(torch.bfloat16)
    assert codec.encode(pixels).dtype == codec(pixels).dtype == torch.float32
    assert (codec(pixels) - exact).abs().max() < 0.1


@pytest.mark.parametrize(("busy", "calls"), [(24, 3), (48, 2), (1000, 1)])
def test_large_pictures_go_one_after_the_other(
    busy: int, calls: int, codec: Codec, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = codec.encode(pixels)
    seen: list[int] = []
    decode = codec.autoencoder.decode
    monkeypatch.setattr(codec.autoencoder, "decode", lambda some: [seen.append(len(some)), decode(some)][1])
    monkeypatch.setattr("undiffuse.model.codec.BUSY", busy)

    with torch.no_grad():
        torch.testing.assert_close(codec.encode(pixels), z)
        torch.testing.assert_close(codec.decode(z), pixels)
    assert sum(seen) == 3 and len(seen) == calls


class Narrow(Exact):
    """One that overflows in half precision, as that of Stable Diffusion XL does."""

    def __init__(self) -> None:
        super().__init__()
        self.grow = torch.nn.Conv2d(12, 12, 1, bias=False)
        self.grow.weight.data = 60000 * torch.eye(12)[:, :, None, None]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = super().encode(x)
        return self.grow(mean) * 2 / 120000, logvar

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.grow(z) * 2 / 120000)


@pytest.mark.parametrize("rests", [False, True])
@pytest.mark.parametrize("way", ["encode", "decode"])
def test_one_that_overflows_in_half_precision_is_widened_and_said_to_be(
    way: str, rests: bool, pixels: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    codec = Codec(Narrow(), torch.zeros(12), torch.ones(12), factor=2, channels=12).requires_grad_(False)
    if rests:
        rest(codec.autoencoder, torch.device("cpu"), torch.float16)
    else:
        codec.autoencoder.half()
    z, _ = Exact().encode(pixels)

    found, wanted = (codec.decode(z), pixels) if way == "decode" else (codec.encode(pixels), z)

    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    assert [record.message for record in caplog.records] == [
        "the autoencoder overflows in half precision; it computes in float32 from now on"
    ]
    assert working_dtype(codec.autoencoder) == torch.float32
