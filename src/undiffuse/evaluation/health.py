"""May stage two begin? A verdict on an autoencoder, with its reasons in plain words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from undiffuse.evaluation.latents import LatentReport
from undiffuse.evaluation.reconstruction import AutoencoderReport

# Rombach et al. 2022, table 8: the coarsest first stage that the paper still draws well with, VQ at f = 16, gives 20.8 dB
# and SSIM 0.54; the one that it does not, VQ at f = 32, 17.5 dB and 0.41.
LEAST_PSNR = 20.0
LEAST_SSIM = 0.5
GOOD_PSNR = 24.0
LEAST_PERPLEXITY = 8.0
GOOD_CODE_USE = 0.1  # of the codes that could have appeared
WORST_SEAM = 2.0
FITTING_STD = (0.5, 2.0)
FITTING_MEAN = 0.5


@dataclass(frozen=True)
class Verdict:
    """Whether a denoiser may be trained on these latents; `against` forbid it, `doubts` do not."""

    ready: bool
    reasons: tuple[str, ...]
    against: tuple[str, ...]
    doubts: tuple[str, ...]

    def __str__(self) -> str:
        head = "stage two may begin" if self.ready else "stage two should wait"
        told = [*(f"  no: {text}" for text in self.against), *(f"  but: {text}" for text in self.doubts)]
        return "\n".join([head, *told, *(f"  yes: {text}" for text in self.reasons)])


@dataclass(frozen=True)
class AutoencoderHealth:
    """Reconstruction, latents and the verdict on both."""

    reconstruction: AutoencoderReport
    latents: LatentReport
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """The figures of the reconstruction, then `latents` and `verdict`."""
        return {**self.reconstruction.to_json(), "latents": self.latents.to_json(), "verdict": asdict(self.verdict)}

    def table(self) -> str:
        """All of it for people."""
        return "\n\n".join([self.reconstruction.table(), self.latents.table(), str(self.verdict)])


def judge(reconstruction: AutoencoderReport, latents: LatentReport) -> Verdict:
    """Judge an autoencoder by what the paper's own ones reach, and by faults that no denoiser can make good."""
    notes = _Notes([], [], [])
    if not math.isfinite(latents.mean) or not math.isfinite(latents.std):
        notes.against.append("latents hold NaN or infinity; train again, at a lower rate")
        return notes.verdict()
    _judge_pictures(reconstruction, notes)
    _judge_channels(latents, notes)
    _judge_codes(latents, notes)
    if latents.seam is not None and latents.seam > WORST_SEAM:
        doubt = f"decoded in tiles, errors beside the cuts are {latents.seam:.1f} times as large"
        notes.doubts.append(f"{doubt}; decode large pictures whole or with overlap")
    return notes.verdict()


@dataclass(frozen=True)
class _Notes:
    reasons: list[str]
    against: list[str]
    doubts: list[str]

    def verdict(self) -> Verdict:
        return Verdict(not self.against, tuple(self.reasons), tuple(self.against), tuple(self.doubts))


def _judge_pictures(reconstruction: AutoencoderReport, notes: _Notes) -> None:
    psnr, ssim = reconstruction.psnr.value, reconstruction.ssim.value
    told = f"pictures come back at {psnr:.1f} dB and SSIM {ssim:.2f}"
    if psnr < LEAST_PSNR or ssim < LEAST_SSIM:
        limits = f"below {LEAST_PSNR:.0f} dB or {LEAST_SSIM} what is lost shows in every picture that is drawn"
        notes.against.append(f"{told}; {limits}; train longer, or keep more channels or a smaller factor")
    elif psnr < GOOD_PSNR:
        notes.doubts.append(f"{told}; fine detail is lost, and a denoiser cannot bring it back")
    else:
        notes.reasons.append(told)


def _judge_channels(latents: LatentReport, notes: _Notes) -> None:
    dead, count = latents.dead, len(latents.channels)
    if len(dead) == count:
        notes.against.append("every channel is dead: latents say nothing about their picture; lower the weight of the KL term")
    elif dead:
        named = ", ".join(map(str, dead[:8])) + (", ..." if len(dead) > 8 else "")
        notes.doubts.append(f"{len(dead)} of {count} channels are dead ({named}): a denoiser would learn noise there")
    else:
        notes.reasons.append(f"all {count} channels say something")
    low, high = FITTING_STD
    if not latents.normalised:
        notes.reasons.append("the codec does not normalise yet; stage two measures shift and scale itself")
        return
    widest = max(channel.std for channel in latents.channels)  # that one has 1 at every `objective.importance`
    told = f"normalised latents have mean {latents.mean:.2f}, and the widest channel deviation {widest:.2f}"
    if low <= widest <= high and abs(latents.mean) <= FITTING_MEAN:
        notes.reasons.append(told)
    else:
        given = f"{told}, not 0 and 1"
        notes.doubts.append(f"{given}: shift and scale were measured on other pictures than these")


def _judge_codes(latents: LatentReport, notes: _Notes) -> None:
    if latents.codes is None or latents.perplexity is None:
        return
    possible = min(latents.codes, latents.positions)
    told = f"codes say as much as {latents.perplexity:.1f} used evenly would, of {possible} possible"
    if latents.perplexity < min(LEAST_PERPLEXITY, possible / 4):
        notes.against.append(f"{told}; the codebook has collapsed: train again with fewer codes or with a shortcut")
    elif latents.perplexity < GOOD_CODE_USE * possible:
        notes.doubts.append(f"{told}; fewer codes would do as well")
    else:
        notes.reasons.append(told)
