"""From settled requests to latents: levels, noise, conditioning, guidance, solver, decoding."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from undiffuse.conditioners.base import Fields
from undiffuse.conditioners.lowres import LowResConditioner
from undiffuse.conditioners.masked import shrink_mask
from undiffuse.conditioners.small import SmallConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.core.random import START
from undiffuse.diffusion.brownian import BrownianPath, Path
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.drive import Cursor, Solver, Step, counted, steps
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.handover import handed_over, handover_time
from undiffuse.diffusion.known import blended, keep_known, repaint
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import DiscreteSchedule
from undiffuse.diffusion.solvers.table import find_solver
from undiffuse.generation.beginning import begun_with, sketched
from undiffuse.generation.given import check_readable, given_by, readings_of, sketching
from undiffuse.generation.hires import LARGEST, Hires, enlarge
from undiffuse.generation.lora_tags import spoken, tags_of
from undiffuse.generation.refining import check_refinable
from undiffuse.generation.request import USUAL, Request
from undiffuse.generation.scripts import check_script
from undiffuse.generation.seed_profiles import NATIVE
from undiffuse.generation.seeds.levels import check_path, grid_as, whole_grid
from undiffuse.generation.seeds.numbers import Given, numbers_of
from undiffuse.generation.steering import steered
from undiffuse.generation.wardrobe import Wardrobe
from undiffuse.model.latent_diffusion import LatentDiffusion

HIDING = (NATIVE, "diffusers")
"""Seeds of which it is known how they hide small pictures."""
ENLARGING = (SmallConditioner, LowResConditioner)
READABLE = {
    "caption": "prompts",
    "label": "labels",
    "layout": "semantic maps",
    "mask": "masks",
    "small": "small pictures",
    "depth": "depth maps",
}
NEEDED = {
    "small": ("a small picture", "pass small, or --small FILE, or run 'undiffuse upscale FILE'"),
    "depth": ("a depth map", "pass depth, or --depth FILE, white where near: depth is not estimated"),
}
"""What fields are called that some models cannot do without, and how to pass them."""
SECOND = 10**6  # added to every step of a second pass: its noise is not that of the first one


def settle(
    request: Request, model: LatentDiffusion, refiner: LatentDiffusion | None = None, wardrobe: Wardrobe | None = None
) -> Request:
    """The request with its size, its way of filling masks and what is usual filled in, checked against what the model can do.

    Raises:
        UsageError: when the prompt names a LoRA that the wardrobe has not.
        SpecError: when the model has not learned what is asked for, or cannot draw in that size, or a refiner is missing.
        DataError: when a map, a box or another context is of no use to the model.
    """
    request = _as_usual(request, model)
    readers = [model] if request.refine_at is None or refiner is None else [model, refiner]
    read = {field for reader in readers for field in reader.conditioner.fields}
    for name, value, field in _said(request):
        if value and field not in read:
            given = f"this model cannot read {name}" + (f" {value!r}" if isinstance(value, str) else "")
            raise SpecError(explain(given, _readable(model), f"leave {name} out"))
    _check_needs(request, readers)
    width, height = _size(request, model)
    unit = _unit(model)
    if width % unit or height % unit:
        own = f"the model's own size is {model.spec.size}"
        raise SpecError(explain(f"a picture of {width}x{height}", f"both sides must be multiples of {unit}", own))
    kinds = [part.kind for part in model.spec.conditioners]
    strange = next((kind for kind in request.scales if kind not in kinds), None)
    if strange is not None:
        given = f"scales names {strange!r}"
        raise SpecError(explain(given, f"this model was taught {', '.join(kinds) or 'no context'}", "leave it out"))
    for kind, part in zip(kinds, model.conditioner.parts, strict=True):
        if kind in request.scales and not part.guided:
            allowed = "that is followed as it is, guidance is not about it"
            raise SpecError(explain(f"scales names {kind!r}", allowed, "leave it out"))
    if request.sketch is not None and request.mask is None and sketching(model) is None:
        given = f"sketch = {request.sketch:g} for the model {model.spec.name!r}"
        raise SpecError(explain(given, "it makes no sketch of what words say", "leave sketch out"))
    told = {"fill": _fill(request, model), "noise_level": _noise_level(request, model)}
    if request.sketch is not None and told["fill"] not in (None, "learned"):
        given = f"sketch = {request.sketch:g} with fill = {told['fill']!r}"
        raise SpecError(explain(given, "that begins with noise alone", "leave sketch out"))
    settled = request.replace(width=width, height=height, **told)
    _check_second(settled, model)
    if settled.refine_at is not None:
        last = settled if settled.hires is None else _second(settled, model)
        check_refinable(settled, _size(last, model), refiner)
    (wardrobe or Wardrobe(model)).check(tags_of(settled))
    check_readable(settled, model)
    check_script(settled, model)
    check_path(settled, model.schedule)
    return settled


def _as_usual(request: Request, model: LatentDiffusion) -> Request:
    """The request with what it leaves to the model filled in: as that is usually drawn with, or as any is."""
    if "steps" in request.model_fields_set:
        return request
    own = {name: getattr(request, name) for name in USUAL}
    usual = model.spec.usual
    if usual is not None:
        share = usual.sketch if request.mask is None or usual.hole is None else usual.hole
        begun = share if _begins_with_sketch(request, model) else None
        theirs = {"steps": usual.steps, "guidance": usual.guidance, "sketch": begun}
        own |= {name: value for name, value in theirs.items() if name not in request.model_fields_set}
    return request.replace(**own)


def _begins_with_sketch(request: Request, model: LatentDiffusion) -> bool:
    """Whether words say all that there is to begin with, or words and what is around a hole, of a model that remembers such."""
    said = {field for _, value, field in _said(request) if value}
    if not (request.prompt or request.label) or not said <= {"caption", "label"} or request.seeds != NATIVE:
        return False
    if request.mask is None:
        return request.image is None
    part = sketching(model)
    return part is not None and part.remembers and request.strength == 1 and _fill(request, model) == "learned"


def _said(request: Request) -> Iterator[tuple[str, object, str]]:
    """Everything that a request may say: what to call it, its value, and the field that a part must read."""
    yield "the prompt", request.prompt, "caption"
    yield "the negative prompt", request.negative, "caption"
    yield "clip_skip", request.clip_skip > 1, "clip_skip"
    yield "the label", request.label, "label"
    yield "the semantic map", request.layout, "layout"
    yield "the small picture", request.small, "small"
    yield "a noise level", request.noise_level is not None, "noise_level"
    yield "boxes", request.boxes, "boxes"
    yield "the picture to resemble", request.like, "like"
    yield "the depth map", request.depth, "depth"
    yield from ((f"the context {name!r}", True, name) for name in request.context)


def _check_needs(request: Request, readers: Sequence[LatentDiffusion]) -> None:
    """Refuse to draw without what the models cannot draw without: what was never left out in training."""
    said = {field for _, value, field in _said(request) if value}
    pairs = [pair for one in readers for pair in zip(one.spec.conditioners, one.conditioner.parts, strict=True)]
    needed = [field for spec, part in pairs if spec.drop == 0 for field in part.needs]
    missing = next((field for field in needed if field not in said), None)
    if missing is not None:
        what, remedy = NEEDED[missing]
        raise SpecError(explain(f"nothing but words for a model that draws from {what}", f"{what} is needed", remedy))


def _fill(request: Request, model: LatentDiffusion) -> str | None:
    """How a mask is filled: as asked, else as the model learned it, else by keeping what is known."""
    if request.mask is None:
        return None
    learned = "mask" in model.conditioner.fields
    if request.fill == "learned" and not learned:
        remedy = "fill = 'known' or 'repaint' works with any model"
        raise SpecError(explain("fill = 'learned'", f"this model has not learned 'mask': {_readable(model)}", remedy))
    return request.fill or ("learned" if learned else "known")


def _noise_level(request: Request, model: LatentDiffusion) -> int | None:
    """How much noise hides a small picture: as asked, else as is usual where a model is told it at all."""
    part = next((part for part in model.conditioner.parts if isinstance(part, LowResConditioner)), None)
    if part is None:
        return None
    if request.seeds not in HIDING or (request.seeds != NATIVE and request.image is not None):
        start = " and starts from another" if request.image is not None else ""
        given = f"seeds {request.seeds!r} with a model that draws from small pictures under noise{start}"
        raise SpecError(explain(given, "no numbers of other programs are known for that", f"take seeds = {NATIVE!r}"))
    return part.usual if request.noise_level is None else request.noise_level


def _check_second(request: Request, model: LatentDiffusion) -> None:
    """Refuse a second pass that is larger than any picture, or finer than the model's schedule."""
    if request.hires is None:
        return
    larger = _second(request, model)
    width, height = _size(larger, model)
    if max(width, height) > LARGEST:
        raise SpecError(explain(f"a second pass of {width}x{height}", f"sides go up to {LARGEST}", "lower hires.scale"))
    whole = request.hires.whole(larger.steps)
    if isinstance(model.schedule, DiscreteSchedule) and whole > model.schedule.t_max + 1:
        given = f"hires with {larger.steps} steps at a strength of {request.hires.strength:g}"
        allowed = f"that is a part of {whole} steps, and this model has {int(model.schedule.t_max) + 1}"
        raise SpecError(explain(given, allowed, "ask for fewer, or more strength"))


def unread(request: Request, model: LatentDiffusion) -> list[str]:
    """The prompts of a request that are so long that the model does not read their end."""
    texts = [text for text in (request.prompt, request.negative) if text]
    return [text for text in texts if any(part.truncated([text])[0] for part in model.conditioner.parts)]


def read_as(request: Request, model: LatentDiffusion) -> dict[str, str]:
    """The words of a request's prompts that the model reads as others, and as what."""
    texts = [text for text in (spoken(request), request.negative) if text]
    return {word: meant for text in texts for part in model.conditioner.parts for word, meant in part.read_as(text).items()}


def grid_of(request: Request, model: LatentDiffusion) -> Grid:
    """The levels that a request visits; when it starts from a picture or a sketch only the last of them.

    Of a request with two passes those of the first one.
    """
    return grid_as(request, model.schedule)


def steps_of(request: Request, model: LatentDiffusion) -> int:
    """How many steps a picture of this request takes, those of a second pass too."""
    return len(grid_of(request, model)) + (0 if request.hires is None else len(_second_grid(request, model)))


class Plan(NamedTuple):
    """How pictures are drawn: a solver that asks, the denoiser that answers it, and what steers that."""

    solver: Solver
    denoise: Denoise
    cond: Conditioning


@torch.no_grad()
def sample(
    pictures: Sequence[Request], model: LatentDiffusion, refiner: LatentDiffusion | None = None
) -> Generator[Step, None, None]:
    """The steps of pictures that are drawn together as `plan` says; the last one holds the finished latents (B, C, h, w)."""
    yield from steps(*plan(pictures, model, refiner))


@torch.no_grad()
def plan(pictures: Sequence[Request], model: LatentDiffusion, refiner: LatentDiffusion | None = None) -> Plan:
    """The plan of pictures that are drawn together; whoever drives its solver has their finished latents (B, C, h, w).

    Args:
        pictures: settled requests of one picture each, alike in everything but words, seeds, start and contexts.
        model: where its weights are is where the work is done.
        refiner: answers from `refine_at` on, of two passes in the second.
    """
    grid = grid_of(pictures[0], model)
    noise = _Noise(pictures, model)
    rows = _rows(pictures, model, noise)
    start = _start(pictures, rows, model, grid, noise)
    if pictures[0].hires is None:
        return _pass(pictures, rows, model, refiner, grid, noise, start)
    return _go_on(_pass(pictures, rows, model, None, grid, noise, start), pictures, model, refiner)


def _go_on(first: Plan, pictures: Sequence[Request], model: LatentDiffusion, refiner: LatentDiffusion | None) -> Plan:
    """The first pass and the second one as one plan: a solver that enlarges on the way, a denoiser that knows where it is."""
    request, larger = pictures[0], [_second(picture, model) for picture in pictures]
    hires = request.hires
    assert hires is not None
    grid, total = _second_grid(request, model), steps_of(request, model)
    under_way = [first]  # the pass that is, last

    @torch.no_grad()
    def both() -> Solver:
        z = yield from counted(first.solver, 0, total)
        z = enlarge(z, _size(larger[0], model), hires.upscaler, model.codec)
        noise = _Noise([_finer(picture, hires) for picture in larger], model, SECOND if request.seeds == NATIVE else 0)
        x = grid[0].alpha * z + grid[0].sigma * noise(START)
        rows = _rows(larger, model, noise)
        under_way.append(_pass(larger, rows, model, refiner, grid, noise, x, before=request.steps))
        return (yield from counted(under_way[-1].solver, total - len(grid), total))

    def denoise(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        return under_way[-1].denoise(x, level, under_way[-1].cond)

    return Plan(both(), denoise, first.cond)


def _rows(pictures: Sequence[Request], model: LatentDiffusion, noise: _Noise) -> list[Fields]:
    """The readings of each picture."""
    return [readings_of(picture, model, own.latent("around")) for picture, own in zip(pictures, noise.streams, strict=True)]


def _pass(
    pictures: Sequence[Request],
    rows: Sequence[Fields],
    model: LatentDiffusion,
    refiner: LatentDiffusion | None,
    grid: Grid,
    noise: _Noise,
    x: Tensor,
    before: int = 0,
) -> Plan:
    """The plan of one pass from x (B, C, h, w) at the grid's first level, by readings of the pictures.

    A second one has steps of the first `before` it.
    """
    first = pictures[0]
    entry, _ = find_solver(first.solver)
    cursor = Cursor()
    denoise, cond = steered(pictures, model, rows, _latent_size(first, model), cursor, before)
    if refiner is not None and first.refine_at is not None:
        read = [readings_of(picture, refiner) for picture in pictures]
        rest = steered(pictures, refiner, read, _latent_size(first, model), cursor, before)
        denoise = handed_over(denoise, *rest, handover_time(model.schedule, first.refine_at))
    options = ({"eta": first.eta} if entry.takes_eta else {}) | entry.settings(first.solver_options)
    if first.mask is None or first.fill == "learned":
        solver = entry.function(x, grid, noise, **options)
    else:
        known, hidden = _known(pictures, rows, model, noise)
        if first.fill == "repaint":
            solver = repaint(x, grid, noise, known, hidden)
        else:
            denoise, solver = keep_known(denoise, known, hidden), entry.function(x, grid, noise, **options)
            if noise.streams[0].blends:
                denoise = blended(denoise, known, hidden, noise(START), None if noise.streams[0].begun else grid[0])
    return Plan(cursor.follow(solver), denoise, cond)


def _second(request: Request, model: LatentDiffusion) -> Request:
    """What the second pass draws, as a request of its own."""
    assert request.hires is not None
    width, height = request.hires.size(_size(request, model), _unit(model))
    told = {"width": width, "height": height, "steps": request.hires.steps or request.steps}
    return request.model_copy(update={**told, "image": None, "sketch": None, "hires": None})


def _finer(request: Request, hires: Hires) -> Request:
    """A second pass with the steps of the whole grid of which it takes the last `strength`, as in A1111."""
    return request.model_copy(update={"steps": hires.whole(request.steps)})


def _second_grid(request: Request, model: LatentDiffusion) -> Grid:
    """The levels that the second pass of a request visits."""
    assert request.hires is not None
    larger = _second(request, model)
    return whole_grid(_finer(larger, request.hires), model.schedule).last(larger.steps)


def _unit(model: LatentDiffusion) -> int:
    """What sides of pictures are multiples of: the autoencoder shrinks them, and the U-Net halves latents further."""
    return model.codec.factor * model.spec.denoiser.factor


@torch.no_grad()
def decode(z: Tensor, model: LatentDiffusion) -> list[Image.Image]:
    """Pictures of latents (B, C, h, w)."""
    return to_images(model.codec.decode(z))


class _Noise:
    """Noise (B, C, h, w) of a step. Every picture has the stream of its own seed, whatever batch it is in.

    Steps of ours are counted from `first` in the streams.
    """

    def __init__(self, pictures: Sequence[Request], model: LatentDiffusion, first: int = 0) -> None:
        shape = (model.codec.channels, *_latent_size(pictures[0], model))
        self.streams = [numbers_of(picture, shape) for picture in pictures]
        self.device = model.device
        self.first = first

    def __call__(self, step: int) -> Tensor:
        return torch.cat([stream(self.first + step) for stream in self.streams]).to(self.device)

    def path(self, grid: Grid) -> Path:
        """Brownian noise for a run over this grid: of each picture its own."""
        if self.streams[0].request.seeds == NATIVE:
            return BrownianPath(self)
        return _Together([stream.path(grid) for stream in self.streams], self.device)

    def latent(self, given: Given) -> Tensor | None:
        """What latents of pictures are drawn with; None where their mean is taken."""
        found = [drawn for stream in self.streams if (drawn := stream.latent(given)) is not None]
        return torch.cat(found).to(self.device) if found else None


class _Together:
    """Paths of several pictures as one."""

    def __init__(self, paths: Sequence[Path], device: torch.device) -> None:
        self.paths, self.device = paths, device

    def between(self, now: Level, nxt: Level) -> Tensor:
        return torch.cat([path.between(now, nxt) for path in self.paths]).to(self.device)


def _start(pictures: Sequence[Request], rows: Sequence[Fields], model: LatentDiffusion, grid: Grid, noise: _Noise) -> Tensor:
    """What the solver starts from: noise of the grid's first level, over the pictures or sketches to start from if any."""
    first, one, level = pictures[0], noise.streams[0], grid[0]
    x = one.spread(level, grid.schedule) * noise(START)
    if first.sketch is not None and first.mask is None:
        return level.alpha * sketched(rows, model, _latent_size(first, model)) + x
    return level.alpha * _encoded(pictures, rows, model, noise) + x if one.begun or first.sketch is not None else x


def _encoded(pictures: Sequence[Request], rows: Sequence[Fields], model: LatentDiffusion, noise: _Noise) -> Tensor:
    """Latents (B, C, h, w) of the pictures to start from."""
    drawn, pixels = noise.latent("image"), _pixels(pictures, rows, model)
    return model.codec.encode(pixels) if drawn is None else model.codec.draw(pixels, drawn)


def _pixels(pictures: Sequence[Request], rows: Sequence[Fields], model: LatentDiffusion) -> Tensor:
    """The pictures to start from (B, 3, H, W), of masked ones the window that is drawn."""
    size = _size(pictures[0], model)
    begun = [begun_with(picture, row, model, size) for picture, row in zip(pictures, rows, strict=True)]
    return torch.stack([to_pixels(one) for one in begun]).to(model.device)


def _known(pictures: Sequence[Request], rows: Sequence[Fields], model: LatentDiffusion, noise: _Noise) -> tuple[Tensor, Tensor]:
    """Latents (B, C, h, w) of masked pictures, and where they are to be made anew (B, 1, h, w)."""
    masks = [given_by(picture, model)["mask"] for picture in pictures]
    hidden = torch.stack([shrink_mask((mask > 0).float(), model.codec.factor) for mask in masks])
    return _encoded(pictures, rows, model, noise), hidden.to(model.device)


def _latent_size(request: Request, model: LatentDiffusion) -> tuple[int, int]:
    """Height and width of the latent."""
    width, height = _size(request, model)
    return height // model.codec.factor, width // model.codec.factor


def _size(request: Request, model: LatentDiffusion) -> tuple[int, int]:
    """Width and height in pixels; where the request leaves them open those of its enlarged picture, or the model's own."""
    width = height = model.spec.size
    scale = next((part.scale for part in model.conditioner.parts if isinstance(part, ENLARGING)), None)
    if request.small is not None and scale is not None:
        unit = _unit(model)
        width, height = (max(unit, round(side * scale / unit) * unit) for side in request.small.size)
    return request.width or width, request.height or height


def _readable(model: LatentDiffusion) -> str:
    """What a model can be asked for, in words."""
    *most, last = [READABLE.get(field, field) for field in model.conditioner.fields] or ["nothing at all"]
    return f"it reads {' and '.join(filter(None, (', '.join(most), last)))}"
