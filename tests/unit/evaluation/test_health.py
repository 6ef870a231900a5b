"""The verdict on an autoencoder, fault by fault."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from undiffuse.evaluation.health import AutoencoderHealth, judge
from undiffuse.evaluation.latents import Channel, LatentReport
from undiffuse.evaluation.reconstruction import AutoencoderReport
from undiffuse.evaluation.report import Figure

ALIVE, DEAD = Channel(0.0, 1.0, 3.0, False), Channel(0.0, 0.0, 0.0, True)
GOOD = LatentReport(8, 512, True, 0.0, 1.0, (ALIVE,) * 4, None, None, None, 1.1)


def pictures(psnr: float = 28.0, ssim: float = 0.9) -> AutoencoderReport:
    return AutoencoderReport(*(Figure(value, 8, value, value) for value in (psnr, ssim, 0.1)))


def test_a_healthy_autoencoder() -> None:
    verdict = judge(pictures(), GOOD)
    assert verdict.ready and verdict.against == verdict.doubts == ()
    assert str(verdict).startswith("stage two may begin\n  yes: pictures come back at 28.0 dB")


@pytest.mark.parametrize(
    ("measured", "latents", "fault"),
    [
        (pictures(psnr=17.5), GOOD, "17.5 dB"),
        (pictures(ssim=0.41), GOOD, "SSIM 0.41"),
        (pictures(), replace(GOOD, channels=(DEAD,) * 4), "every channel is dead"),
        (pictures(), replace(GOOD, std=math.nan), "NaN"),
        (pictures(), replace(GOOD, codes=256, code_use=0.01, perplexity=2.0), "the codebook has collapsed"),
    ],
)
def test_faults_that_forbid_stage_two(measured: AutoencoderReport, latents: LatentReport, fault: str) -> None:
    verdict = judge(measured, latents)
    assert not verdict.ready
    assert len(verdict.against) == 1 and fault in verdict.against[0]
    assert str(verdict).startswith("stage two should wait\n  no: ")


@pytest.mark.parametrize(
    ("measured", "latents", "doubt"),
    [
        (pictures(psnr=21.0), GOOD, "fine detail is lost"),
        (pictures(), replace(GOOD, channels=(ALIVE, DEAD, ALIVE)), r"1 of 3 channels are dead (1)"),
        (pictures(), replace(GOOD, channels=(Channel(0.0, 4.0, 3.0, False), ALIVE)), "measured on other pictures"),
        (pictures(), replace(GOOD, mean=-1.0), "measured on other pictures"),
        (pictures(), replace(GOOD, codes=16384, code_use=0.06, positions=10**6, perplexity=400.0), "fewer codes would do"),
        (pictures(), replace(GOOD, seam=3.0), "3.0 times as large"),
    ],
)
def test_doubts_do_not_forbid_it(measured: AutoencoderReport, latents: LatentReport, doubt: str) -> None:
    verdict = judge(measured, latents)
    assert verdict.ready
    assert len(verdict.doubts) == 1 and doubt in verdict.doubts[0]


def test_raw_latents_of_any_size_are_well() -> None:
    verdict = judge(pictures(), replace(GOOD, normalised=False, std=7.0))
    assert verdict.ready and not verdict.doubts and any("does not normalise yet" in reason for reason in verdict.reasons)


def test_channels_that_are_kept_small_on_purpose_are_well() -> None:
    kept_small = Channel(0.0, 0.1, 3.0, False)
    assert not judge(pictures(), replace(GOOD, std=0.46, channels=(ALIVE, *(kept_small,) * 4))).doubts


def test_a_small_codebook_that_is_used_is_well() -> None:
    latents = replace(GOOD, codes=64, code_use=1.0, perplexity=20.0)
    assert any("20.0 used evenly" in reason for reason in judge(pictures(), latents).reasons)


def test_people_and_machines_are_told_the_same() -> None:
    health = AutoencoderHealth(pictures(), GOOD, judge(pictures(), GOOD))
    told = health.to_json()
    assert list(told) == ["psnr", "ssim", "feature_distance", "latents", "verdict"]
    assert told["verdict"]["ready"] is True and len(told["latents"]["channels"]) == 4
    assert all(part in health.table() for part in ("95 % interval", "channel 3", "stage two may begin"))
