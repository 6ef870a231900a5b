"""What a refiner must be, and what it must be told, to take a drawing over from another model."""

from __future__ import annotations

from undiffuse.core.errors import SpecError, explain
from undiffuse.generation.given import check_readable
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion


def check_refiner(model: LatentDiffusion, refiner: LatentDiffusion) -> None:
    """Refuse a refiner that could not go on with what the model has drawn.

    Raises:
        SpecError: when it knows other latents, or another noise schedule.
    """
    names = f"the refiner {refiner.spec.name!r}", f"the model {model.spec.name!r}"
    shapes = [f"{one.codec.channels} channels at {one.codec.factor} pixels" for one in (refiner, model)]
    if shapes[0] != shapes[1]:
        raise SpecError(explain(f"{names[0]} with latents of {shapes[0]}", f"{names[1]} has {shapes[1]}", "both must be equal"))
    if _normalised(refiner) != _normalised(model):
        given = f"{names[0]} with latents of another shift or scale"
        raise SpecError(explain(given, f"those of {names[1]} are needed", "both must be trained on one autoencoder"))
    if refiner.spec.schedule != model.spec.schedule:
        told = [f"the noise schedule {one.spec.schedule!r}" for one in (refiner, model)]
        raise SpecError(explain(f"{names[0]} with {told[0]}", f"{names[1]} has {told[1]}", "both must be equal"))


def check_refinable(request: Request, size: tuple[int, int], refiner: LatentDiffusion | None) -> None:
    """Refuse a settled request with `refine_at` that no refiner can finish in this width and height.

    Raises:
        SpecError: when there is none, or it cannot draw in that size, or read what it is told.
    """
    if refiner is None:
        remedy = "Generator(model, refiner=...), --refiner PATH on the command line, or leave refine_at out"
        raise SpecError(explain(f"refine_at = {request.refine_at:g}", "nothing is there to refine with", remedy))
    (width, height), unit = size, refiner.codec.factor * refiner.spec.denoiser.factor
    if width % unit or height % unit:
        given = f"a picture of {width}x{height} for the refiner"
        raise SpecError(explain(given, f"both sides must be multiples of {unit}", "choose another size"))
    check_readable(request, refiner)


def _normalised(model: LatentDiffusion) -> list[tuple[float, ...]]:
    """Shift and scale of the latents, a number a channel."""
    latent, channels = model.spec.codec.latent, model.codec.channels
    return [told if len(told) == channels else told * channels for told in (latent.shift, latent.scale)]
