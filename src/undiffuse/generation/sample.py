"""From settled requests to latents: levels, noise, conditioning, guidance, solver, decoding."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from PIL import Image, ImageOps
from torch import Tensor

from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.core.random import PictureNoise
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.drive import Step, steps
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.guidance import classifier_free
from undiffuse.diffusion.solvers.table import find_solver
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

START = -1  # the step whose noise a picture starts from


def settle(request: Request, model: LatentDiffusion) -> Request:
    """The request with its size filled in, checked against what the model can do.

    Raises:
        SpecError: when the model has not learned what is asked for, or cannot draw in that size.
    """
    for name, value, field in (
        ("the prompt", request.prompt, "caption"),
        ("the negative prompt", request.negative, "caption"),
        ("the label", request.label, "label"),
    ):
        if value and field not in model.conditioner.fields:
            raise SpecError(explain(f"this model cannot read {name} {value!r}", _readable(model), f"leave {name} out"))
    width, height = _size(request, model)
    unit = model.codec.factor * model.spec.denoiser.factor  # the U-Net halves the latent further
    if width % unit or height % unit:
        own = f"the model's own size is {model.spec.size}"
        raise SpecError(explain(f"a picture of {width}x{height}", f"both sides must be multiples of {unit}", own))
    return request.replace(width=width, height=height)


def unread(request: Request, model: LatentDiffusion) -> list[str]:
    """The prompts of a request that are so long that the model does not read their end."""
    texts = [text for text in (request.prompt, request.negative) if text]
    parts = [part for part in model.conditioner.parts if isinstance(part, TextConditioner)]
    return [text for text in texts if any(part.truncated([text])[0] for part in parts)]


def grid_of(request: Request, model: LatentDiffusion) -> Grid:
    """The levels that a request visits; when it starts from a picture only the last `strength` of them."""
    entry, _ = find_solver(request.solver)
    strength = request.strength if request.image is not None else 1.0
    return make_grid(model.schedule, request.steps, request.spacing or entry.spacing, strength=strength)


@torch.no_grad()
def sample(pictures: Sequence[Request], model: LatentDiffusion) -> Generator[Step, None, None]:
    """The steps of pictures that are drawn together; the last one holds the finished latents (B, C, h, w).

    Args:
        pictures: settled requests of one picture each, alike in everything but words, seeds and start.
        model: where its weights are is where the work is done.
    """
    first = pictures[0]
    entry, _ = find_solver(first.solver)
    grid = grid_of(first, model)
    noise = _Noise(pictures, model)
    options = {"eta": first.eta} if entry.takes_eta else {}
    solver = entry.function(_start(pictures, model, grid, noise), grid, noise, **options)
    yield from steps(solver, _guided(pictures, model), _words(pictures, model))


@torch.no_grad()
def decode(z: Tensor, model: LatentDiffusion) -> list[Image.Image]:
    """Pictures of latents (B, C, h, w)."""
    return to_images(model.codec.decode(z))


class _Noise:
    """Noise (B, C, h, w) of a step. Every picture has the stream of its own seed, whatever batch it is in."""

    def __init__(self, pictures: Sequence[Request], model: LatentDiffusion) -> None:
        width, height = _size(pictures[0], model)
        shape = (model.codec.channels, height // model.codec.factor, width // model.codec.factor)
        self.streams = [PictureNoise(picture.seed, (0,), shape) for picture in pictures]
        self.device = model.device

    def __call__(self, step: int) -> Tensor:
        return torch.cat([stream(step) for stream in self.streams]).to(self.device)


def _start(pictures: Sequence[Request], model: LatentDiffusion, grid: Grid, noise: _Noise) -> Tensor:
    """What the solver starts from: noise of the grid's first level, over the pictures to start from if any."""
    level = grid[0]
    x = level.sigma * noise(START)
    images = [p.image for p in pictures if p.image is not None]
    if not images:
        return x
    size = _size(pictures[0], model)
    pixels = torch.stack([to_pixels(ImageOps.fit(image, size, Image.Resampling.LANCZOS)) for image in images])
    return level.alpha * model.codec.encode(pixels.to(model.device)) + x


def _words(pictures: Sequence[Request], model: LatentDiffusion) -> Conditioning:
    return model.conditioner([{"caption": p.prompt, "label": p.label} for p in pictures])


def _guided(pictures: Sequence[Request], model: LatentDiffusion) -> Denoise:
    """The model's denoiser, steered away from the negative prompts; as it is when guidance is 1 or nothing is read."""
    first = pictures[0]
    if first.guidance == 1 or not model.conditioner.fields:
        return model.denoiser
    negative = model.conditioner([{"caption": p.negative} for p in pictures])
    return classifier_free(
        model.denoiser, negative, first.guidance, rescale=first.guidance_rescale, interval=first.guidance_interval
    )


def _size(request: Request, model: LatentDiffusion) -> tuple[int, int]:
    """Width and height in pixels; the model's own where the request leaves them open."""
    return request.width or model.spec.size, request.height or model.spec.size


def _readable(model: LatentDiffusion) -> str:
    """What a model can be asked for, in words."""
    told = {"caption": "prompts", "label": "labels"}
    return f"it reads {' and '.join(told.get(field, field) for field in model.conditioner.fields) or 'nothing at all'}"
