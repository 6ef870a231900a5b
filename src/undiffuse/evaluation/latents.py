"""What the latents of an autoencoder are like: their statistics, their codes, and whether decoding leaves seams."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse.core.errors import DataError, explain
from undiffuse.model.codec import Codec
from undiffuse.networks.quantizer import VQAutoencoder, code_use

SEAM_PICTURES = 8  # decoded a second time, in tiles
SEAM_FLOOR = 2 / 255  # one step of 8 bits, in [-1, 1]: smaller ones nobody sees
DEAD_SHARE = 0.01  # of the widest channel's standard deviation
DEAD_KL = 0.01  # nats a position
DEAD_STD = 1e-6  # of the widest channel itself
SHOWN = 16  # channels in a table


@dataclass(frozen=True)
class Channel:
    """One channel of a latent as the denoiser sees it; `kl` is in nats a position, None where there is no posterior."""

    mean: float
    std: float
    kl: float | None
    dead: bool


@dataclass(frozen=True)
class LatentReport:
    """Statistics over all positions of all pictures that were encoded.

    `mean` and `std` are over all channels, normalised as the codec does (`normalised` says whether it does at all).
    A channel is dead when it varies by less than a hundredth of the widest one, or says less than 0.01 nats a
    position. `code_use` is the share of the codebook that appeared, `perplexity` how many codes used evenly would
    say as much. `seam` is the error within f pixels of the cuts of a latent that is decoded in four tiles, for one
    of decoding it whole: 1 when a tile needs nothing of what lies beyond its edge.
    """

    pictures: int
    positions: int
    normalised: bool
    mean: float
    std: float
    channels: tuple[Channel, ...]
    codes: int | None
    code_use: float | None
    perplexity: float | None
    seam: float | None

    @property
    def dead(self) -> list[int]:
        """Numbers of the dead channels."""
        return [number for number, channel in enumerate(self.channels) if channel.dead]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def table(self) -> str:
        """A line for all channels and one for each, then codes and seam."""
        has_kl = self.channels[0].kl is not None
        lines = [f"{'latents':12}  {'mean':>8}  {'std':>8}" + f"  {'KL, nats':>8}" * has_kl]
        total = None if not has_kl else sum(channel.kl or 0.0 for channel in self.channels)
        lines.append(_line("all", self.mean, self.std, total))
        for number, channel in enumerate(self.channels[:SHOWN]):
            lines.append(_line(f"channel {number}", channel.mean, channel.std, channel.kl) + "  dead" * channel.dead)
        if len(self.channels) > SHOWN:
            lines.append(f"and {len(self.channels) - SHOWN} more channels; --json tells all")
        if self.code_use is not None:
            lines.append(f"codes used {100 * self.code_use:.1f} % of {self.codes}, perplexity {self.perplexity:.1f}")
        if self.seam is not None:
            lines.append(f"error beside the cuts of tiled decoding {self.seam:.2f} times that of decoding whole")
        return "\n".join(lines)


def _line(name: str, mean: float, std: float, kl: float | None) -> str:
    return f"{name:12}  {mean:8.3f}  {std:8.3f}" + ("" if kl is None else f"  {kl:8.3f}")


class LatentRecorder:
    """A round trip through a codec that remembers what its latents were like.

    Handed to `evaluate_autoencoder` in the place of the codec it costs next to nothing: every picture is encoded
    and decoded once, and the first eight are decoded in tiles too.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        channels = codec.channels
        self._sum, self._square, self._kl = (torch.zeros(channels, dtype=torch.float64) for _ in range(3))
        self._positions = self._pictures = 0
        self._has_kl = False
        net = codec.autoencoder
        self._quantizer = net.quantizer if isinstance(net, VQAutoencoder) else None
        self._used = None if self._quantizer is None else torch.zeros(len(self._quantizer.codes), dtype=torch.int64)
        self._seams: list[tuple[float, float]] = []  # errors beside cuts: in tiles, whole

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] through the codec and back."""
        latents, logvar = self.codec.moments(pixels)
        self._record(latents.cpu().double(), None if logvar is None else logvar.cpu().double())
        if self._quantizer is not None and self._used is not None:
            found = self._quantizer.nearest(latents).flatten().cpu()
            self._used += torch.bincount(found, minlength=len(self._used))
        z = self.codec.normalise(latents)
        whole = self.codec.decode(z)
        left = SEAM_PICTURES - self._pictures
        if left > 0 and min(z.shape[-2:]) > 1:
            self._seams += seams(self.codec, z[:left], whole[:left], pixels[:left])
        self._pictures += len(pixels)
        return whole

    def _record(self, latents: Tensor, logvar: Tensor | None) -> None:
        rows = latents.movedim(1, -1).flatten(0, -2)  # (Bhw, C)
        self._sum += rows.sum(0)
        self._square += rows.square().sum(0)
        self._positions += len(rows)
        if logvar is not None:
            self._has_kl = True
            self._kl += 0.5 * (latents.square() + logvar.exp() - 1 - logvar).sum((0, 2, 3))

    def report(self) -> LatentReport:
        """The statistics of everything that went through.

        Raises:
            DataError: when nothing did.
        """
        if not self._positions:
            raise DataError(explain("nothing was encoded", "statistics need at least one picture", "evaluate on more pictures"))
        mean = self._sum / self._positions
        std = (self._square / self._positions - mean.square()).clamp_min(0).sqrt()
        kl = self._kl / self._positions if self._has_kl else None
        widest = float(std.max())
        dead = (std < DEAD_SHARE * widest) | (widest < DEAD_STD)
        if kl is not None:
            dead |= kl < DEAD_KL
        shift, scale = (t.flatten().cpu().double().expand_as(mean) for t in (self.codec.shift, self.codec.scale))
        seen, spread = (mean - shift) * scale, std * scale
        overall = seen.mean()
        channels = tuple(
            Channel(float(seen[i]), float(spread[i]), None if kl is None else float(kl[i]), bool(dead[i]))
            for i in range(len(seen))
        )
        use = perplexity = None
        if self._used is not None:
            use, perplexity = map(float, code_use(self._used))
        seam = None
        if self._seams:
            tiled, whole = (sum(errors) / len(errors) + SEAM_FLOOR for errors in zip(*self._seams, strict=True))
            seam = tiled / whole
        return LatentReport(
            pictures=self._pictures,
            positions=self._positions,
            normalised=bool((shift != 0).any() or (scale != 1).any()),
            mean=float(overall),
            std=float((spread.square() + (seen - overall).square()).mean().sqrt()),
            channels=channels,
            codes=None if self._used is None else len(self._used),
            code_use=use,
            perplexity=perplexity,
            seam=seam,
        )


def seams(codec: Codec, z: Tensor, whole: Tensor, pixels: Tensor) -> list[tuple[float, float]]:
    """Mean absolute errors beside the cuts of latents that are decoded in four tiles, and at the same place decoded whole.

    Args:
        codec: decodes.
        z: normalised latents (B, C, h, w), both sides above 1.
        whole: their pictures (B, 3, h*f, w*f), decoded in one piece.
        pixels: what both should be.

    Returns:
        For every picture the error in tiles and the error in one piece, within f pixels of a cut.
    """
    top, left = (side // 2 for side in z.shape[-2:])
    halves = z.split((top, z.shape[-2] - top), dim=-2)
    rows = [torch.cat([codec.decode(tile) for tile in half.split((left, z.shape[-1] - left), dim=-1)], -1) for half in halves]
    near = torch.zeros(pixels.shape[-2:], dtype=torch.bool, device=pixels.device)
    near[(top - 1) * codec.factor : (top + 1) * codec.factor] = True
    near[:, (left - 1) * codec.factor : (left + 1) * codec.factor] = True
    tiled, one = ((made - pixels).abs()[..., near].float().mean((1, 2)) for made in (torch.cat(rows, dim=-2), whole))
    return list(zip(tiled.tolist(), one.tolist(), strict=True))
