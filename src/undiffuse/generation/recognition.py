"""Things that a model remembers, recognised by what is to be seen of them beside a hole: which, how large and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.core.membrane import continued
from undiffuse.model.codec import Codec

SIDE = 64  # pixels, at most, of the longer side of what is searched
SIZES = tuple(1.1**-step for step in range(19))  # of a thing, against how it is remembered: down to a fifth
NEARER = (1 / 1.05, 1.0, 1.05)  # sizes that are tried once a thing is found
EVIDENCE = 3.0  # that a thing has to explain: squared differences, summed over the pixels that are searched
SHARE = 0.4  # that it has to explain of what is unexplained where it is laid
GRAIN = 0.01  # squared difference of a pixel from what is around it, at least
AROUND = 25  # pixels on a side, of those that are searched
MOST = 5  # things in one picture
AT_ONCE = 64  # things and sizes that are laid together
SEEN = 0.5  # of a cut-out: where it covers that much its extent ends
BESIDE = 2  # pixels from a thing, where its edge still shows in what is behind it
TOUCHED = 0.1  # cover of a pixel that is the thing's as much as what is behind it
FAINTEST = 0.05  # cover of which paint can be told
FEWEST = 16  # pixels that a thing has where it is looked for


class Cutout(NamedTuple):
    """A thing in front of nothing: its paint (3, h, w) in [-1, 1], and how much of every pixel it covers (h, w)."""

    paint: Tensor
    cover: Tensor

    def resized(self, by: float) -> Cutout:
        """The cut-out larger or smaller `by` this factor, 2 pixels on a side at least."""
        size = [max(2, round(side * by)) for side in self.cover.shape]
        layers = torch.cat([(self.paint + 1) * self.cover, self.cover[None]])
        layers = F.interpolate(layers[None], size, mode="bilinear", antialias=True)[0]
        return unpainted(layers[:-1], layers[-1].clamp(0, 1))


class Found(NamedTuple):
    """A cut-out in its size, and the row and the column of its upper left corner."""

    cutout: Cutout
    row: int
    column: int

    def lies_in(self, hidden: Tensor) -> bool:
        """Whether it covers something that is hidden (H, W)."""
        return bool((hidden[self.window()] & (self.cutout.cover > SEEN)).any())

    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the picture that it lies in."""
        height, width = self.cutout.cover.shape
        return slice(self.row, self.row + height), slice(self.column, self.column + width)


def unpainted(before_black: Tensor, cover: Tensor) -> Cutout:
    """The cut-out of which this is to be seen before black: levels (3, h, w) from 0, and its cover (h, w)."""
    return Cutout((before_black / cover.clamp_min(FAINTEST) - 1).clamp(-1, 1), cover)


def cut_out(things: Tensor, codec: Codec) -> Iterator[Cutout]:
    """Things that are kept as paint and cover (K, C + 1, h, w), decoded: in pictures of h and w times the codec's factor.

    Each is decoded before white and before black: what shows through tells to the pixel what it covers ("triangulation
    matting", Smith and Blinn 1996). Nothing is made of those that are next to nothing.
    """
    height, width = (side * codec.factor for side in things.shape[-2:])
    grounds = codec.encode(torch.tensor([1.0, -1.0], device=codec.device)[:, None, None, None].expand(2, 3, height, width))
    paint, cover = things[:, :-1].to(codec.device), things[:, -1:].to(codec.device)
    white, black = (codec.decode(paint + (1 - cover) * ground).float().cpu() for ground in grounds)
    for before_white, before_black in zip(white, black, strict=True):
        covered = (1 - (before_white - before_black).mean(0) / 2).clamp(0, 1)
        rows, columns = ((covered > SEEN).any(dim).nonzero()[:, 0].tolist() for dim in (1, 0))
        if rows:
            extent = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            yield unpainted(before_black[:, *extent] + 1, covered[extent])


def recognised(picture: Tensor, known: Tensor, cutouts: Sequence[Cutout], scale: float = 1.0) -> list[Found]:
    """Which cut-outs lie where in a picture (3, H, W) in [-1, 1] of which only a part is `known` (H, W), the surest first.

    They are tried as large as they are times `scale`, and smaller.

    A thing explains a pixel as far as that is nearer to the thing's own than to what is around it in the picture. Every
    thing in every size is laid everywhere, by Fourier transforms of smaller pictures, and what explains most in all is
    taken; what it covers needs no more explaining, and the rest is searched again.
    """
    height, width = known.shape
    unit = -(-max(height, width) // SIDE)
    share = F.avg_pool2d(known[None].float(), unit, ceil_mode=True)[0]
    seen = (share > 0.999).float()  # (h, w)
    pixels = F.avg_pool2d((picture * known)[None], unit, ceil_mode=True)[0] * seen
    sized = [(one, by, one.resized(by / unit)) for one in cutouts for by in (scale * size for size in SIZES)]
    fits = [(one, by, small) for one, by, small in sized if _fits(one, by, known) and small.cover.numel() >= FEWEST]
    ours = [_transformed([small for *_, small in fits[at : at + AT_ONCE]], seen) for at in range(0, len(fits), AT_ONCE)]
    left, found = known.float(), list[Found]()
    while fits and len(found) < MOST:
        unexplained = _unexplained(pixels, seen)
        explained, places = _laid(pixels, seen, unexplained, ours)
        first = int(explained.argmax())
        if explained[first] < EVIDENCE:
            break
        one, by, small = fits[first]
        row, column = divmod(int(places[first]), seen.shape[1])
        closely = F.interpolate(unexplained[None, None], (height, width), mode="bilinear")[0, 0]
        found.append(_nearer(picture, left, closely, one, by, (row * unit, column * unit), unit))
        seen *= 1 - _touched(Found(small, row, column), seen, 1)
        left *= 1 - _touched(found[-1], left, unit)
    return found


def completed(picture: Tensor, known: Tensor, found: Sequence[Found]) -> Tensor:
    """The picture (3, H, W) with what was found laid over what is not `known` (H, W), from far to near: lower is nearer.

    What is behind is continued from what is known beside the things.
    """
    beside = known.clone()
    for one in found:
        beside &= _touched(one, known, BESIDE) == 0
    out = continued(picture, beside if beside.any() else known).clone()
    for one in sorted(found, key=lambda one: one.row + one.cutout.cover.shape[0]):
        out[:, *one.window()].lerp_(one.cutout.paint, one.cutout.cover)
    return torch.where(known, picture, out)


def _fits(one: Cutout, by: float, known: Tensor) -> bool:
    return all(round(own * by) <= whole for own, whole in zip(one.cover.shape, known.shape, strict=True))


def _touched(one: Found, picture: Tensor, by: int) -> Tensor:
    """1 where a picture like this (h, w) is covered no more than `by` pixels away, or else 0."""
    cover = torch.zeros(picture.shape)
    cover[one.window()] = one.cutout.cover
    return (F.max_pool2d(cover[None], 2 * by + 1, 1, by)[0] > TOUCHED).float()


def _unexplained(pixels: Tensor, seen: Tensor) -> Tensor:
    """How far (h, w) pixels (3, h, w) are from the mean of those around them that are `seen` (h, w)."""
    layers = torch.cat([pixels * seen, seen[None]])[None]
    around = F.avg_pool2d(layers, AROUND, 1, AROUND // 2, count_include_pad=False)[0]
    return (pixels - around[:-1] / around[-1].clamp_min(1e-6)).square().mean(0) + GRAIN


def _transformed(cutouts: Sequence[Cutout], seen: Tensor) -> tuple[Tensor, Tensor]:
    """Fourier transforms (K, 5, h, w // 2 + 1) of what belongs to each cut-out, and where it may lie (K, h, w)."""
    height, width = seen.shape
    layers, room = seen.new_zeros(len(cutouts), 5, height, width), torch.zeros(len(cutouts), height, width, dtype=torch.bool)
    for (paint, cover), own, free in zip(cutouts, layers, room, strict=True):
        rows, columns = cover.shape
        own[:, :rows, :columns] = torch.cat([cover[None], cover * paint * 2 / 3, -(cover * paint.square().mean(0))[None]])
        free[: height - rows + 1, : width - columns + 1] = True
    return torch.fft.rfft2(layers), room


def _laid(pixels: Tensor, seen: Tensor, unexplained: Tensor, cutouts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The most that each of K cut-outs explains of pixels (3, h, w), and where, counted row by row: (K,) each.

    Of a pixel x before which a cut-out of cover c has paint p it explains c (u - |x - p|^2), with u what x is from the mean
    around it: a sum of products of what belongs to the picture with what belongs to the cut-out. Where that is less than
    `SHARE` of c u it does not count.
    """
    theirs = torch.cat([(unexplained - pixels.square().mean(0))[None], pixels, torch.ones_like(seen)[None]])
    theirs, all_of_it = torch.fft.rfft2(theirs * seen), torch.fft.rfft2(unexplained * seen)  # (5, h, w // 2 + 1)
    best = []
    for ours, room in cutouts:
        explained = torch.fft.irfft2((theirs * ours.conj()).sum(1), tuple(seen.shape))  # (K, h, w)
        enough = explained >= SHARE * torch.fft.irfft2(all_of_it * ours[:, 0].conj(), tuple(seen.shape))
        best.append(explained.masked_fill(~(room & enough), float("-inf")).flatten(1).max(1))
    return torch.cat([some.values for some in best]), torch.cat([some.indices for some in best])


def _nearer(
    picture: Tensor, seen: Tensor, unexplained: Tensor, one: Cutout, by: float, corner: tuple[int, int], unit: int
) -> Found:
    """The cut-out found at this size and corner, to `unit` pixels, at the size and corner nearby that explain most."""
    tried: list[tuple[float, Found]] = []
    for closely in NEARER:
        cutout = one.resized(by * closely)
        rows, columns = (whole - own for whole, own in zip(seen.shape, cutout.cover.shape, strict=True))
        if min(rows, columns) < 0:
            continue
        # A little larger, its middle stays where it is.
        top, left = (at - round(own * (1 - 1 / closely) / 2) for at, own in zip(corner, cutout.cover.shape, strict=True))
        shifts = range(-unit, unit + 1, max(1, unit // 4))
        corners = {(min(max(0, top + y), rows), min(max(0, left + x), columns)) for y in shifts for x in shifts}
        for row, column in sorted(corners):
            place = Found(cutout, row, column)
            window = place.window()
            apart = (picture[:, *window] - cutout.paint).square().mean(0)
            gain = (cutout.cover * seen[window] * (unexplained[window] - apart)).sum()
            tried.append((float(gain), place))
    return max(tried, key=lambda pair: pair[0])[1]
