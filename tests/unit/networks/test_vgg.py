"""VGG16's shape and input range."""

from __future__ import annotations

import torch

from undiffuse.networks.vgg import Vgg


def test_vgg16_has_its_published_parameters_and_five_maps() -> None:
    with torch.device("meta"):
        net = Vgg()
        shapes = [tuple(f.shape[1:]) for f in net.features(torch.zeros(1, 3, 32, 48))]
    assert sum(p.numel() for p in net.parameters()) == 14_714_688  # 138,357,544 less those of the classifier
    assert shapes == [(64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (512, 2, 3)]


def test_pixels_are_normalised_as_in_its_training() -> None:
    net = Vgg(((3,),))
    with torch.no_grad():
        net.stages[0][0].weight.copy_(torch.zeros(3, 3, 3, 3))  # type: ignore[index]
        net.stages[0][0].weight[:, :, 1, 1] = torch.eye(3)  # type: ignore[index]
        net.stages[0][0].bias.zero_()  # type: ignore[index]
    white = net.features(torch.ones(1, 3, 1, 1))[0].flatten()
    torch.testing.assert_close(white, torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]))
