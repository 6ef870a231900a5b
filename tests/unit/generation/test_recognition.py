"""Things that are remembered, recognised by what is to be seen of them beside a hole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.membrane import continued
from undiffuse.generation.recognition import Cutout, completed, cut_out, recognised
from undiffuse.model.codec import Codec
from undiffuse.networks.autoencoder import Coder


class AsItIs(Coder):
    """An "autoencoder" whose latents are the pixels."""

    factor = 1

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))  # a codec asks its weights what it computes in

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return x, None

    def decode(self, z: Tensor) -> Tensor:
        return z


@pytest.fixture
def codec() -> Codec:
    return Codec(AsItIs(), torch.zeros(3), torch.ones(3), factor=1, channels=3)


SKY = torch.stack([torch.linspace(-0.8, -0.2, 96)[:, None].expand(96, 128)] * 2 + [torch.full((96, 128), 0.6)])


def disc(side: int, *colours: float) -> Cutout:
    """A disc of two colours, the left half of one and the right half of the other, inside a square."""
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    left, right = (torch.tensor(colours[some])[:, None, None] for some in (slice(3), slice(3, 6)))
    return Cutout(torch.where(columns < 0, left, right), (rows.square() + columns.square() < 1).float())


FLAG = disc(48, 1, -1, -1, 1, 1, 1)  # red and white
LEAF = disc(48, -1, 0.5, -1, -1, -0.5, -1)  # green and dark green


def scene(cutout: Cutout, side: int, row: int, column: int) -> Tensor:
    """The sky and, before it, the cut-out, `side` pixels large."""
    sky = SKY.clone()
    shown = cutout.resized(side / cutout.cover.shape[0])
    sky[:, row : row + side, column : column + side].lerp_(shown.paint, shown.cover)
    return sky


def hole(rows: slice, columns: slice) -> Tensor:
    known = torch.ones(96, 128, dtype=torch.bool)
    known[rows, columns] = False
    return known


@pytest.mark.parametrize(("side", "row", "column"), [(32, 40, 60), (21, 10, 5), (45, 45, 80)])
def test_a_thing_is_found_in_its_size_and_place(side: int, row: int, column: int) -> None:
    picture = scene(FLAG, side, row, column)
    known = hole(slice(row, row + side), slice(column + side // 2, column + side))  # its right half is hidden
    found = recognised(picture * known, known, [LEAF, FLAG])
    assert len(found) == 1
    assert found[0].cutout.paint[0].mean() > 0  # the red and white one
    height, width = found[0].cutout.cover.shape
    assert height == pytest.approx(side, abs=2) and width == pytest.approx(side, abs=2)
    assert (found[0].row, found[0].column) == pytest.approx((row, column), abs=2)
    done = completed(picture * known, known, found)
    assert torch.equal(done[:, known], picture[:, known])
    away, smoothly = ((one - picture)[:, ~known].abs().mean() for one in (done, continued(picture, known)))
    assert away < smoothly / 2


def test_nothing_is_found_where_nothing_is_to_be_seen_of_it() -> None:
    known = hole(slice(30, 70), slice(50, 100))
    behind = scene(FLAG, 32, 34, 60)
    assert recognised(SKY, known, [FLAG, LEAF]) == []
    assert recognised(behind * known, known, [FLAG, LEAF]) == []
    assert recognised(behind, torch.zeros(96, 128, dtype=torch.bool), [FLAG]) == []
    assert recognised(behind, known, []) == []


def test_two_things_are_found_and_the_lower_one_is_nearer() -> None:
    picture = scene(LEAF, 32, 20, 40)
    shown = FLAG.resized(32 / 48)
    picture[:, 40:72, 50:82].lerp_(shown.paint, shown.cover)
    known = hole(slice(34, 60), slice(52, 68))
    found = recognised(picture * known, known, [FLAG, LEAF])
    leaf, flag = sorted(found, key=lambda one: one.row)
    assert (leaf.row, leaf.column, flag.row, flag.column) == pytest.approx((20, 40, 40, 50), abs=3)
    done = completed(picture * known, known, found)
    assert torch.equal(done, completed(picture * known, known, found[::-1]))
    both = (FLAG.resized(32 / 48).cover[:20, 2:18] > 0.9) & ~known[40:60, 52:68]
    assert float(done[0, 40:60, 52:68][both].median()) > 0.9  # red and white, not green


def test_things_are_cut_out_to_the_pixel(codec: Codec) -> None:
    paint, cover = torch.zeros(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    paint[0, :, 8:56, 12:60], cover[0, 0, 8:56, 12:60] = FLAG.paint * FLAG.cover, FLAG.cover
    things = torch.cat([paint, cover], dim=1)  # of the second there is nothing
    (whole,) = cut_out(things, codec)
    extent = [slice(int(some[0]), int(some[-1]) + 1) for some in (FLAG.cover.amax(dim).nonzero()[:, 0] for dim in (1, 0))]
    torch.testing.assert_close(whole.cover, FLAG.cover[*extent])
    torch.testing.assert_close(whole.paint * whole.cover, (FLAG.paint * FLAG.cover)[:, *extent])
    half = whole.resized(0.5)
    assert half.cover.shape == tuple(side // 2 for side in whole.cover.shape)
    assert float(half.cover.mean()) == pytest.approx(float(whole.cover.mean()), abs=0.02)


def test_pictures_of_any_size_and_shape_are_searched() -> None:
    picture = F.interpolate(scene(FLAG, 32, 40, 60)[None], scale_factor=6, mode="bilinear")[0]
    known = F.interpolate(hole(slice(40, 72), slice(76, 92))[None, None].float(), scale_factor=6)[0, 0] > 0
    (found,) = recognised(picture * known, known, [LEAF, FLAG], scale=6)
    assert found.cutout.paint[0].mean() > 0 and found.lies_in(~known)
    assert (found.row, found.column) == pytest.approx((240, 360), abs=12)
    assert found.cutout.cover.shape[0] == pytest.approx(192, abs=12)
    strip, hidden = torch.full((3, 10, 1030), -0.5), torch.ones(10, 1030, dtype=torch.bool)
    hidden[:, 500:505] = False
    assert recognised(strip, hidden, [FLAG, LEAF], scale=10 / 48) == []  # searched at this size nothing is more than a pixel
