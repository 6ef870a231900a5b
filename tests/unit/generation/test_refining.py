"""A refiner takes a drawing over: who answers when, what each is told, and what the picture tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import PIECES
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.diffusion.handover import handed_over, handover_time
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.explain.recording import record
from undiffuse.explain.verify import verify
from undiffuse.generation.generator import Generator
from undiffuse.generation.hires import Hires
from undiffuse.generation.metadata import parse_parameters
from undiffuse.generation.output import read_origin, read_request
from undiffuse.generation.request import Request
from undiffuse.generation.sample import settle
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec
from undiffuse.networks.text.wordpiece import build_wordpiece

FOX = Request("a fox", seed=7, steps=5, solver="ddim", refine_at=0.6)


def other_model(spec: ModelSpec, **changes: object) -> LatentDiffusion:
    """A model of other weights that reads the same words."""
    made = build_model(ModelSpec.parse(spec.model_dump(mode="json") | {"name": "second", **changes}), build_wordpiece(PIECES))
    with torch.no_grad():
        for key, weight in made.denoiser.network.named_parameters():
            weight.add_(0.1 * normal(weight.shape, "refiner", key))
    return made.eval()


@pytest.fixture(scope="module")
def refiner(tiny_spec: ModelSpec) -> LatentDiffusion:
    return other_model(tiny_spec)


@pytest.fixture(scope="module")
def draw(tiny_model: LatentDiffusion, refiner: LatentDiffusion) -> Generator:
    return Generator(tiny_model, refiner=refiner, device="cpu", precision="fp32", tell=None)


@contextmanager
def watched(*models: LatentDiffusion) -> Iterator[list[tuple[str, float]]]:
    """Who is asked at which time, in order."""
    seen: list[tuple[str, float]] = []

    def note(name: str) -> object:
        return lambda _, given: seen.append((name, round(float(given[1].t))))

    hooks = [model.denoiser.register_forward_pre_hook(note(model.spec.name)) for model in models]  # type: ignore[arg-type]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def levels(image: object) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize(("share", "time"), [(0.8, 200), (0.5, 500), (0.2, 800)])
def test_the_schedule_is_shared_as_in_diffusers(share: float, time: int) -> None:
    for kind in ("scaled_linear", "flow"):
        assert handover_time(build_schedule(ScheduleSpec(kind=kind)), share) == time  # type: ignore[arg-type]


def test_each_is_told_its_own_and_the_first_has_the_boundary() -> None:
    def told(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        assert cond.vector is not None
        return cond.vector

    first, second = (Conditioning(vector=torch.full((1, 1), value)) for value in (1.0, 2.0))
    denoise = handed_over(told, told, second, 200)

    answers = [float(denoise(torch.zeros(1), Level(t, 1.0, 0.0), first)) for t in (999.0, 200.0, 199.9, 0.0)]
    assert answers == [1.0, 1.0, 2.0, 2.0]


def test_the_refiner_answers_the_rest(draw: Generator, tiny_model: LatentDiffusion, refiner: LatentDiffusion) -> None:
    with watched(tiny_model, refiner) as seen:
        draw(FOX)

    assert seen == [("tiny", 1000), ("tiny", 800), ("tiny", 600), ("tiny", 400), ("second", 200)]
    with watched(tiny_model, refiner) as seen:
        draw(FOX.replace(refine_at=None))
    assert {name for name, _ in seen} == {"tiny"}


def test_of_two_passes_it_finishes_the_second(draw: Generator, tiny_model: LatentDiffusion, refiner: LatentDiffusion) -> None:
    with watched(tiny_model, refiner) as seen:
        result = draw(FOX.replace(steps=2, hires=Hires(scale=2, strength=0.5, steps=4)))

    assert [name for name, _ in seen] == ["tiny"] * 2 + ["tiny", "second", "second", "second"]
    assert result.images[0].size == (32, 32)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "heun", "euler_ancestral"])
def test_a_model_that_refines_itself_draws_the_same(solver: str, tiny_model: LatentDiffusion) -> None:
    itself = Generator(tiny_model, refiner=tiny_model, device="cpu", precision="fp32", tell=None)
    request = FOX.replace(solver=solver, negative="red")

    assert itself(request).images[0].tobytes() == itself(request.replace(refine_at=None)).images[0].tobytes()


def test_a_picture_is_the_same_alone_and_in_a_batch(draw: Generator) -> None:
    request = FOX.replace(count=3, negative="red")

    for one, image in zip(request.each(), draw(request).images, strict=True):
        assert np.abs(levels(draw(one).images[0]) - levels(image)).max() <= 1


def test_the_picture_tells_of_both(draw: Generator, refiner: LatentDiffusion, tmp_path: Path) -> None:
    (path,) = draw(FOX).save(tmp_path)
    (plain,) = draw(FOX.replace(refine_at=None)).save(tmp_path)

    before, without = read_origin(path), read_origin(plain)
    assert before is not None and without is not None
    assert (before.refiner, before.refiner_hash) == ("second", refiner.fingerprint)
    assert (without.refiner, without.refiner_hash) == ("", "")
    request = read_request(path)
    assert request.refine_at == 0.6
    text = draw(FOX).images[0].encoderinfo["pnginfo"].chunks[0][1].decode()  # type: ignore[attr-defined]
    assert f"Refiner: second [{refiner.fingerprint}], Refiner switch at: 0.6" in text
    assert parse_parameters(text.partition("\0")[2])["refine_at"] == "0.6"
    assert "refined by 'second'" in repr(draw)
    assert verify(path, request, draw, before).same


def test_another_refiner_is_a_cause(draw: Generator, tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    (path,) = draw(FOX).save(tmp_path)
    itself = Generator(tiny_model, refiner=tiny_model, device="cpu", precision="fp32", tell=None)

    found = verify(path, read_request(path), itself, read_origin(path))
    assert not found.same and [cause.name for cause in found.causes] == ["refiner"]


def test_without_a_refiner_it_is_refused(tiny_model: LatentDiffusion, draw: Generator) -> None:
    with pytest.raises(SpecError, match=r"refine_at = 0\.6; nothing is there to refine with; Generator\(model, refiner="):
        settle(FOX, tiny_model)
    with pytest.raises(SpecError, match="a drawing that a refiner finishes"):
        record(draw, FOX)
    for share in (0.0, 1.0):
        with pytest.raises(SpecError, match=f"refine_at = {share}"):
            FOX.replace(refine_at=share)


def test_what_cannot_go_on_is_refused(tiny_spec: ModelSpec, tiny_model: LatentDiffusion) -> None:
    other = other_model(tiny_spec, schedule={"kind": "scaled_linear"}, prediction="eps")
    with pytest.raises(SpecError, match=r"the refiner 'second' with the noise schedule .*scaled_linear.*; the model 'tiny'"):
        Generator(tiny_model, refiner=other, tell=None)
    codec = tiny_spec.codec.model_dump(mode="json")
    codec["autoencoder"]["latent_channels"] = 8
    codec["latent"] = {"shift": [0.0] * 8, "scale": [1.0] * 8}
    wider = other_model(tiny_spec, codec=codec)
    with pytest.raises(SpecError, match="latents of 8 channels at 2 pixels; the model 'tiny' has 4 channels at 2 pixels"):
        Generator(tiny_model, refiner=wider, tell=None)
    deeper = other_model(tiny_spec, denoiser=tiny_spec.denoiser.model_dump() | {"widths": (64, 64, 64), "depths": (0, 0, 1)})
    with pytest.raises(SpecError, match="a picture of 20x16 for the refiner; both sides must be multiples of 8"):
        settle(FOX.replace(width=20), tiny_model, deeper)
    assert settle(FOX.replace(width=24), tiny_model, deeper).width == 24
