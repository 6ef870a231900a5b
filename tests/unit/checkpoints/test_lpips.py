"""LPIPS from files of every layout that is about, and what is said of files that lack something."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from undiffuse.checkpoints.lpips import load_lpips
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch
from undiffuse.core.random import normal, uniform
from undiffuse.networks.vgg import Vgg

WIDTHS = ((3, 4), (5,))


def torchvision() -> dict[str, Tensor]:
    """A backbone of two stages: convolutions at 0 and 2, a maximum at 4, a convolution at 5."""
    shapes = {0: (3, 3), 2: (4, 3), 5: (5, 4)}
    state = {f"features.{i}.weight": normal((*shape, 3, 3), "vgg", i) for i, shape in shapes.items()}
    return state | {f"features.{i}.bias": normal((shape[0],), "bias", i) for i, shape in shapes.items()}


def heads() -> dict[str, Tensor]:
    return {f"lin{i}.model.1.weight": uniform((1, width, 1, 1), "head", i) for i, width in enumerate((4, 5))}


def whole() -> dict[str, Tensor]:
    """The state of an LPIPS module inside that of a training run."""
    slices = {"0": 1, "2": 1, "5": 2}
    renamed = {
        key.replace("features.", f"net.slice{slices[key.split('.')[1]]}."): value for key, value in torchvision().items()
    }
    return {f"loss.perceptual_loss.{key}": value for key, value in (renamed | heads()).items()}


def distances(x: Tensor, y: Tensor) -> Tensor:
    """LPIPS written out."""
    state, mean, std = torchvision(), torch.tensor([-0.03, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.45])

    def maps(x: Tensor) -> list[Tensor]:
        conv = lambda x, i: torch.nn.functional.conv2d(  # noqa: E731
            x, state[f"features.{i}.weight"], state[f"features.{i}.bias"], padding=1
        ).relu()
        first = conv(conv((x - mean.view(3, 1, 1)) / std.view(3, 1, 1), 0), 2)
        return [first, conv(torch.nn.functional.max_pool2d(first, 2), 5)]

    total = torch.zeros(len(x))
    for a, b, head in zip(maps(x), maps(y), heads().values(), strict=True):
        a, b = (m / m.square().sum(1, keepdim=True).sqrt().clamp_min(1e-8) for m in (a, b))
        total += ((a - b).square() * head).sum(1).mean((1, 2))
    return total


def test_one_file_or_two_of_any_layout_give_the_distance_of_the_paper(tmp_path: Path) -> None:
    torch.save(torchvision(), tmp_path / "vgg16.pth")
    save_file(heads(), tmp_path / "heads.safetensors")
    torch.save({"state_dict": whole(), "epoch": 3}, tmp_path / "run.ckpt")
    x, y = (2 * uniform((2, 3, 8, 8), name) - 1 for name in ("x", "y"))
    expected = distances(x, y)
    for files in (["vgg16.pth", "heads.safetensors"], ["run.ckpt"]):
        distance = load_lpips([tmp_path / file for file in files], Vgg(WIDTHS))
        torch.testing.assert_close(distance(x, y), expected)
        assert not any(p.requires_grad for p in distance.parameters())
    assert distance(x, x).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            heads(),
            r"lacks features\.0\.weight, features\.0\.bias, .* and 3 more; VGG16 and five LPIPS heads are needed; name the",
        ),
        (torchvision(), r"lacks lin0\.model\.1\.weight, lin1\.model\.1\.weight; "),
        ({}, "lacks features"),
    ],
)
def test_what_is_missing_is_named(content: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(MissingKeys, match=message):
        load_lpips([tmp_path / "file.pth"], Vgg(WIDTHS))


def test_other_shapes_are_named(tmp_path: Path) -> None:
    torch.save(whole(), tmp_path / "file.pth")
    with pytest.raises(ShapeMismatch, match=r"other shapes in stages\.0\.0\.weight"):
        load_lpips([tmp_path / "file.pth"], Vgg(((6, 4), (5,))))


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), (torch.zeros(3), "holds a Tensor")])
def test_files_without_tensors_by_name_are_refused(content: Tensor | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=message):
        load_lpips([tmp_path / "file.pth"])
