"""Statistics of latents against latents that are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.core.errors import DataError
from undiffuse.core.random import normal
from undiffuse.evaluation.latents import LatentRecorder
from undiffuse.model.build import build_codec
from undiffuse.model.codec import Codec
from undiffuse.model.spec import CodecSpec, IdentitySpec
from undiffuse.networks.autoencoder import Coder
from undiffuse.networks.quantizer import VQAutoencoder


class Known(Coder):
    """Latents are the pictures times a factor a channel, with this log-variance; decoding may look sideways."""

    factor = 1

    def __init__(self, gain: list[float], logvar: float | None, reach: int = 0) -> None:
        super().__init__()
        self.gain = torch.tensor(gain).view(1, -1, 1, 1)
        self.logvar = logvar
        self.reach = reach

    def encode(self, x: Tensor) -> tuple[Tensor, Any]:
        z = self.gain * x
        return z, None if self.logvar is None else torch.full_like(z, self.logvar)

    def decode(self, z: Tensor) -> Tensor:
        side = 2 * self.reach + 1
        return F.conv2d(z, torch.ones(3, 1, side, side) / side**2, padding=self.reach, groups=3)


def codec_of(net: Coder, shift: float = 0.0, scale: float = 1.0) -> Codec:
    return Codec(net, torch.tensor([shift]), torch.tensor([scale]), factor=1, channels=3)


@pytest.fixture
def pixels() -> Tensor:
    return (0.3 * normal((6, 3, 8, 8), "pixels") + 0.1).clamp(-1, 1)


def recorded(codec: Codec, pixels: Tensor, batch: int = 6) -> LatentRecorder:
    recorder = LatentRecorder(codec)
    for part in pixels.split(batch):
        torch.testing.assert_close(recorder(part), codec(part))
    return recorder


def test_means_and_deviations_are_those_of_what_the_denoiser_sees(pixels: Tensor) -> None:
    codec = codec_of(Known([1.0, 2.0, 0.5], None), shift=0.2, scale=3.0)
    report = recorded(codec, pixels).report()
    z = codec.encode(pixels).double()
    assert [channel.mean for channel in report.channels] == pytest.approx(z.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert [c.std for c in report.channels] == pytest.approx(z.std((0, 2, 3), correction=0).tolist(), rel=1e-5)
    assert (report.mean, report.std) == pytest.approx((float(z.mean()), float(z.std(correction=0))), rel=1e-5)
    assert report.normalised and (report.pictures, report.positions) == (6, 6 * 64)
    assert report.codes is report.perplexity is report.channels[0].kl is None


def test_the_kl_of_a_channel_is_that_of_its_posteriors(pixels: Tensor) -> None:
    report = recorded(codec_of(Known([1.0, 2.0, 0.5], math.log(0.25))), pixels).report()
    squares = (torch.tensor([1.0, 2.0, 0.5]) * pixels.square().mean((0, 2, 3)).sqrt()).square()
    expected = 0.5 * (squares + 0.25 - 1 - math.log(0.25))
    assert [channel.kl for channel in report.channels] == pytest.approx(expected.tolist(), rel=1e-5)
    assert not report.normalised and report.dead == []


@pytest.mark.parametrize(
    ("net", "dead"),
    [
        (Known([1.0, 0.009, 0.011], None), [1]),
        (Known([0.0, 0.0, 0.0], None), [0, 1, 2]),
        (Known([1.0, 0.05, 0.5], 0.0), [1]),  # 0.5 * (0.05 * 0.3)^2 nats
    ],
)
def test_channels_that_say_nothing_are_dead(net: Known, dead: list[int], pixels: Tensor) -> None:
    assert recorded(codec_of(net), pixels).report().dead == dead


def test_the_batch_changes_nothing(pixels: Tensor) -> None:
    codec = codec_of(Known([1.0, 2.0, 0.5], -2.0, reach=1), shift=0.1)
    alone, together = (recorded(codec, pixels, batch).report().to_json() for batch in (1, 6))
    assert [channel == pytest.approx(alone["channels"][i]) for i, channel in enumerate(together.pop("channels"))] == [True] * 3
    del alone["channels"]
    assert alone == pytest.approx(together)


def test_a_decoder_that_looks_no_further_than_a_position_leaves_no_seam(pixels: Tensor) -> None:
    assert recorded(codec_of(Known([1.0] * 3, None)), pixels).report().seam == pytest.approx(1)


def test_a_decoder_that_pads_with_zeros_leaves_one() -> None:
    """On a flat picture a mean over 3x3 that meets zeros loses a third at an edge, 5/9 at a corner."""
    flat = torch.full((2, 3, 4, 4), 0.9)
    report = recorded(codec_of(Known([1.0] * 3, None, reach=1)), flat).report()
    edge, corner = 0.9 / 3, 0.9 * 5 / 9
    whole = 8 * edge / 12  # beside the cuts are 12 of 16 pixels: 8 at an edge, 4 inside
    assert report.seam == pytest.approx((corner + 2 / 255) / (whole + 2 / 255))  # in tiles of 2x2 all are corners


def test_only_the_first_pictures_are_decoded_twice(pixels: Tensor) -> None:
    class Counting(Known):
        decoded = 0

        def decode(self, z: Tensor) -> Tensor:
            self.decoded += z.numel()
            return super().decode(z)

    net = Counting([1.0] * 3, None)
    recorder = LatentRecorder(codec_of(net))
    for _ in range(4):
        recorder(pixels)
    assert net.decoded == (24 + 8) * pixels[0].numel()


def test_one_position_has_no_seam() -> None:
    assert recorded(codec_of(Known([1.0] * 3, None)), normal((2, 3, 1, 1), "x") / 3).report().seam is None


@torch.no_grad()
def test_codes_that_appear_are_counted() -> None:
    net = VQAutoencoder(codes=8, latent_channels=3, widths=(8,), blocks=1, mid_attention=False)
    net.quantizer.codes.copy_(normal((8, 3), "codes"))
    codec = codec_of(net, scale=2.0)
    x = normal((3, 3, 8, 8), "x").clamp(-1, 1)
    report = recorded(codec, x, batch=2).report()
    counts = torch.bincount(net.quantizer.nearest(net.encode(x)[0]).flatten(), minlength=8).double()
    share = counts[counts > 0] / counts.sum()
    assert report.codes == 8 and report.code_use == pytest.approx(len(share) / 8)
    assert report.perplexity == pytest.approx(float(torch.exp(-(share * share.log()).sum())), rel=1e-5)
    assert "codes used" in report.table()


def test_pixels_need_no_autoencoder(pixels: Tensor) -> None:
    report = recorded(build_codec(CodecSpec(autoencoder=IdentitySpec())), pixels).report()
    assert report.seam == 1 and len(report.channels) == 3 and report.dead == []


def test_people_see_some_channels_machines_all() -> None:
    net = Known([1.0] * 3, None)
    net.encode = lambda x: (x.repeat(1, 6, 1, 1), None)  # type: ignore[method-assign]
    net.decode = lambda z: z[:, :3]  # type: ignore[method-assign]
    recorder = LatentRecorder(Codec(net, torch.zeros(1), torch.ones(1), factor=1, channels=18))
    recorder(normal((2, 3, 4, 4), "x"))
    report = recorder.report()
    assert len(report.to_json()["channels"]) == 18
    assert "channel 15" in report.table() and "channel 16" not in report.table() and "and 2 more channels" in report.table()


def test_nothing_encoded_is_refused() -> None:
    with pytest.raises(DataError, match="nothing was encoded"):
        LatentRecorder(codec_of(Known([1.0] * 3, None))).report()
