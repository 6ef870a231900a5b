"""Masks, semantic maps and small pictures: what reaches the net, what counts as nothing, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from undiffuse.conditioners.base import ConditionerPart, PartSpec, Sight, Surroundings
from undiffuse.conditioners.depth import DepthConditioner, DepthSpec
from undiffuse.conditioners.lowres import IMAGE_SPACE, LowResConditioner, LowResSpec
from undiffuse.conditioners.maps import MapConditioner, MapSpec
from undiffuse.conditioners.masked import MaskConditioner, MaskSpec, shrink_mask
from undiffuse.conditioners.small import SmallConditioner, SmallSpec
from undiffuse.core.errors import DataError, SpecError
from undiffuse.core.random import BatchNoise, normal, numpy_stream
from undiffuse.data.records import Example
from undiffuse.diffusion.schedule import build_schedule

CPU = torch.device("cpu")
CLASSES = ("sky", "ground", "animal")
AROUND = Surroundings(channels=4, factor=4, map_classes=CLASSES)
SIGHT = Sight(encode=lambda pixels: F.avg_pool2d(pixels, 4)[:, [0, 1, 2, 0]], describe=lambda pixels: pixels, size=(8, 16))
PIXELS = normal((3, 8, 16), "test", "pixels").clamp(-1, 1)
SPECS = [
    MaskSpec(),
    MapSpec(),
    MapSpec(how="resize"),
    SmallSpec(scale=2),
    SmallSpec(scale=4),
    SmallSpec(scale=8),
    DepthSpec(),
    LowResSpec(),
]


def shown(part: ConditionerPart, spec: PartSpec) -> dict[str, object]:
    layout = torch.arange(128).view(8, 16) % 3
    example = Example(PIXELS, "a fox", fields={"map": layout.to(torch.uint8).numpy(), "depth": PIXELS[:1]})
    return part.read([part.show(example, numpy_stream("test", spec.kind))], SIGHT)[0]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{getattr(spec, 'scale', getattr(spec, 'how', ''))}")
def test_what_is_delivered_is_what_the_spec_says(spec: PartSpec) -> None:
    spec = spec.fitted(AROUND)
    part = spec.build(None)
    cond = part([shown(part, spec), {}], (2, 4))

    routes = spec.routes()
    assert (part.token_width, part.vector_width, part.spatial_channels) == tuple(routes)
    assert cond.slots()["spatial"].shape == (2, routes.spatial, 2, 4)
    assert ("vector" in cond.slots()) == bool(routes.vector)
    null = part.null(1, (2, 4)).slots()
    assert all(torch.equal(value[1:], null[name]) for name, value in cond.slots().items())
    assert not torch.equal(cond.slots()["spatial"][:1], null["spatial"])


@pytest.mark.parametrize("spec", SPECS[:5], ids=lambda spec: spec.kind)
def test_a_null_needs_the_size_of_the_latent(spec: PartSpec) -> None:
    with pytest.raises(SpecError, match="size"):
        spec.fitted(AROUND).build(None).null(2)


def test_a_hidden_pixel_hides_its_latent_position() -> None:
    mask = torch.zeros(1, 8, 16)
    mask[0, 3, 5] = 1
    assert shrink_mask(mask, 4).tolist() == [[[0, 1, 0, 0], [0, 0, 0, 0]]]


def test_nothing_behind_the_mask_reaches_the_net() -> None:
    part = MaskConditioner(channels=4, factor=4)
    mask = torch.zeros(1, 8, 16)
    mask[:, :4, :8] = 1
    other = torch.where(mask > 0, -PIXELS, PIXELS)
    rows = part.read([{"image": PIXELS, "mask": mask}, {"image": other, "mask": mask}, {"image": PIXELS}], SIGHT)

    cond = part(rows[:2], (2, 4)).slots()["spatial"]
    assert torch.equal(cond[0], cond[1])
    assert cond[0, 0].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(cond[0, 1:, :, 2:], SIGHT.encode(PIXELS[None])[0][..., 2:])
    assert rows[2] == {}


def test_training_draws_masks_of_the_shapes_it_is_told() -> None:
    example = Example(PIXELS, "")
    part = MaskSpec(shapes={"full": 1.0}).fitted(AROUND).build(None)
    assert part.show(example, numpy_stream("test", 0))["mask"].min() == 1


def test_a_map_becomes_the_share_of_every_class() -> None:
    part = MapConditioner(CLASSES, factor=4, width=None)
    layout = np.zeros((4, 8), dtype=np.uint8)
    layout[:, 4:6] = 2
    layout[0, 6:] = 255  # nothing said
    spatial = part(part.read([{"layout": layout}], SIGHT)).slots()["spatial"][0]

    assert spatial[:, 0, 0].tolist() == [1, 0, 0, 1]
    assert spatial[:, 0, 1].tolist() == [6 / 16, 0, 8 / 16, 1]


def test_a_class_that_was_never_learned_is_refused() -> None:
    with pytest.raises(DataError, match=r"class 3 in the map; this model knows 0 sky to 2 animal, 255 for anything"):
        MapConditioner(CLASSES, factor=4, width=2).read([{"layout": np.full((4, 4), 3, dtype=np.uint8)}], SIGHT)


def test_a_map_needs_a_data_set_with_maps() -> None:
    with pytest.raises(SpecError, match=r"kind 'map', but the data set has no maps; a \.map\.png beside each picture"):
        MapSpec().fitted(Surroundings(4, 4))


def test_a_small_picture_keeps_every_pixel() -> None:
    part = SmallConditioner(scale=2, factor=4, most_noise=0.5)
    row = part.read([part.show(Example(PIXELS, ""), numpy_stream("test", 0))], SIGHT)[0]
    spatial = part([row]).slots()["spatial"][0]

    assert torch.equal(F.pixel_shuffle(spatial[:-1], 2), row["small"])
    assert spatial[-1].min() == 1


def test_noise_differs_from_step_to_step_and_is_told() -> None:
    part = SmallConditioner(scale=2, factor=4, most_noise=0.5)
    small = part.read([{"small": PIXELS}], SIGHT)[0]["small"][None]
    one, other, again = (part.vary({"small": small}, BatchNoise(CPU, 1, range(1), "test", step)) for step in (0, 1, 0))

    there = torch.ones(1, dtype=torch.bool)
    vectors = [part.embed(seen, there, (4, 4)).slots()["vector"] for seen in (one, other)]
    assert not torch.equal(*vectors)
    difference = (one["small"] - small).std() / one["small_noise"][0]
    assert difference == pytest.approx(1, abs=0.2)
    assert torch.equal(again["small"], one["small"])


def test_pictures_of_two_sizes_make_no_batch() -> None:
    part = SmallConditioner(scale=2, factor=4, most_noise=0)
    with pytest.raises(SpecError, match="one size for the whole batch"):
        part([{"small": PIXELS[:, :4, :4]}, {"small": PIXELS}])


@pytest.mark.parametrize(("scale", "factor"), [(3, 8), (6, 4)])
def test_a_scale_that_does_not_fit_the_latent_is_refused(scale: int, factor: int) -> None:
    with pytest.raises(SpecError, match=f"scale = {scale} .*a divisor or a multiple of the autoencoder's factor {factor}"):
        SmallConditioner(scale, factor, most_noise=0)


def test_depth_goes_from_the_farthest_to_the_nearest_of_each_picture() -> None:
    part = DepthConditioner(factor=4)
    ramp = torch.arange(16.0).expand(1, 8, 16)
    rows = part.read([{"depth": ramp}, {"depth": 7 * ramp + 100}, {"depth": torch.ones(1, 3, 5)}, {}], SIGHT)
    spatial = part(rows, (2, 4)).slots()["spatial"]

    assert spatial.shape == (4, 1, 2, 4)
    assert (spatial[0].min(), spatial[0].max()) == (-1, 1) and bool((spatial[0].diff(dim=2) > 0).all())
    assert torch.allclose(spatial[1], spatial[0], atol=1e-5)
    assert not spatial[2:].any()
    readings, there = {"depth": spatial[:2]}, torch.tensor([True, False])
    assert torch.equal(part.embed(readings, there, (2, 4)).slots()["spatial"], torch.cat([spatial[:1], spatial[3:]]))


def test_depth_is_never_made_up() -> None:
    with pytest.raises(DataError, match="training pictures without depth maps; depth is not estimated"):
        DepthConditioner(factor=4).show(Example(PIXELS, ""), numpy_stream("test", 0))
    with pytest.raises(SpecError, match=r"factor = 0"):
        DepthConditioner(factor=0)


def test_a_drawing_hides_the_small_picture_as_its_schedule_says() -> None:
    part, noise = LowResConditioner(factor=4), normal((3, 2, 4), "test", "hidden")
    level = build_schedule(IMAGE_SPACE).at(200)
    asked = [{"small": PIXELS, "noise_level": 200}, {"small": PIXELS}, {}]
    rows = part.read(asked, replace(SIGHT, noise=lambda shape: noise))
    cond = part(rows, (2, 4)).slots()
    plain = part.read(asked, SIGHT)[0]["lowres"]

    assert torch.allclose(cond["spatial"][0], level.alpha * plain + level.sigma * noise)
    assert cond["vector"].argmax(1).tolist()[:2] == [200, 20] and cond["vector"].sum(1).tolist() == [1, 1, 0]
    assert level.alpha**2 == pytest.approx(np.prod(1 - np.linspace(0.01, np.sqrt(0.02), 1000)[:201] ** 2))


def test_training_hides_small_pictures_under_every_level_and_tells_it() -> None:
    part = LowResConditioner(factor=4, most=3)
    small = torch.zeros(64, 3, 2, 4)
    seen = part.vary({"lowres": small}, BatchNoise(CPU, 64, range(64), "test", 0))
    there = torch.arange(64) > 0
    cond = part.embed(seen, there, (2, 4)).slots()

    assert set(seen["lowres_level"].tolist()) == {0, 1, 2, 3}
    assert torch.equal(cond["vector"][1:].argmax(1), seen["lowres_level"][1:].long())
    assert not cond["vector"][0].any() and not cond["spatial"][0].any()
    sigma = torch.tensor([build_schedule(IMAGE_SPACE).at(t).sigma for t in seen["lowres_level"].tolist()])
    assert (seen["lowres"].flatten(1).std(1) / sigma).mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("told", "words"), [({"most": 1000}, "most = 1000"), ({"schedule": {"kind": "flow"}}, "'flow'")])
def test_a_level_that_no_schedule_has_is_refused(told: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=f"{words}.*; a level of a schedule in steps is needed"):
        LowResSpec.parse(told)
