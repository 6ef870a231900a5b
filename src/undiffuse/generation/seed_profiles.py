"""Whose numbers a seed stands for: ours, or those that another program draws from the same seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.solvers.table import SolverEntry

Seeds = Literal["native", "diffusers", "diffusers-gpu", "comfyui", "comfyui-cpu", "webui-gpu", "webui-cpu"]
NATIVE = "native"

K_DIFFUSION = frozenset({"euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "lcm"})
TREES = frozenset({"dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde"})
"""Solvers that k-diffusion draws from a Brownian tree."""
ANEW = frozenset({"ddpm", "lcm", "restart"})
"""Solvers that draw whatever they are told."""


@dataclass(frozen=True)
class Profile:
    """A program, and the solvers whose noise in every step is known to be drawn as it draws it.

    `rows` tells that a batch has one seed and each picture a row of its draws, so that its place in the batch counts.
    """

    program: str
    draws: frozenset[str]
    rows: bool = False


_DIFFUSERS = (K_DIFFUSION - {"dpmpp_2s_ancestral"}) | {"ddim", "ddpm", "tcd", "dpmpp_2m_sde", "dpmpp_2m_sde_heun"}
_COMFYUI = K_DIFFUSION | TREES | {"ddpm"}
_WEBUI = K_DIFFUSION | TREES | {"ddim", "euler", "heun"}
PROFILES: dict[str, Profile] = {
    "diffusers": Profile("diffusers", _DIFFUSERS),
    "diffusers-gpu": Profile("diffusers", _DIFFUSERS),
    "comfyui": Profile("ComfyUI", _COMFYUI, rows=True),
    "comfyui-cpu": Profile("ComfyUI", _COMFYUI, rows=True),
    "webui-gpu": Profile("AUTOMATIC1111's web UI", _WEBUI),
    "webui-cpu": Profile("AUTOMATIC1111's web UI", _WEBUI),
}


def draws_noise(entry: SolverEntry, eta: float, options: Mapping[str, float]) -> bool:
    """Whether a solver draws noise beyond what it starts from, with this `eta` of a request and these options."""
    told = {**entry.options, **({"eta": eta} if entry.takes_eta else {}), **options}
    if entry.name in ANEW:
        return True
    return any(told.get(name, 0) > 0 for name in ("s_churn", "eta", "gamma"))


def check_seeds(seeds: str, entry: SolverEntry, eta: float, options: Mapping[str, float], fill: str | None) -> None:
    """Refuse what draws noise that another program does not draw, or not in a way that is known.

    Raises:
        SpecError: naming the solver, or the way of filling a mask, and what goes.
    """
    if seeds == NATIVE:
        return
    profile = PROFILES[seeds]
    if fill == "repaint":
        given = f"fill = 'repaint' with seeds {seeds!r}"
        raise SpecError(explain(given, f"{profile.program} does not fill masks so", "fill = 'known', or seeds = 'native'"))
    if draws_noise(entry, eta, options) and entry.name not in profile.draws:
        given = f"the noise of solver {entry.name!r} with seeds {seeds!r}"
        allowed = f"how {profile.program} draws it is known for {', '.join(sorted(profile.draws))}"
        raise SpecError(explain(given, allowed, "take one of them, a solver that draws none, or seeds = 'native'"))
