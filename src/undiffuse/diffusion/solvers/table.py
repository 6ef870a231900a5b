"""Every solver by every name that users know it by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.drive import Solver
from undiffuse.diffusion.solvers.ddim import ddim, ddim_inverse
from undiffuse.diffusion.solvers.ddpm import ddpm
from undiffuse.diffusion.solvers.dpmpp import dpmpp_2m, dpmpp_2m_sde
from undiffuse.diffusion.solvers.euler import euler, euler_ancestral
from undiffuse.diffusion.solvers.heun import heun
from undiffuse.diffusion.solvers.lcm import lcm

SUFFIXES = {"karras": "karras", "exponential": "exponential"}


@dataclass(frozen=True)
class SolverEntry:
    """A solver: our name (ComfyUI's where it has one), A1111's label, and whatever else it is called."""

    name: str
    label: str
    function: Callable[..., Solver]
    aliases: tuple[str, ...] = ()
    spacing: str = "trailing"
    takes_eta: bool = False


ENTRIES = (
    SolverEntry("ddpm", "DDPM", ddpm, ("DDPMScheduler", "k_ddpm")),
    SolverEntry("ddim", "DDIM", ddim, ("DDIMScheduler", "k_ddim"), takes_eta=True),
    SolverEntry("ddim_inverse", "DDIM inverse", ddim_inverse, ("DDIMInverseScheduler",)),
    SolverEntry("euler", "Euler", euler, ("k_euler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler")),
    SolverEntry(
        "euler_ancestral", "Euler a", euler_ancestral, ("k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler")
    ),
    SolverEntry("heun", "Heun", heun, ("k_heun", "HeunDiscreteScheduler")),
    SolverEntry("dpmpp_2m", "DPM++ 2M", dpmpp_2m, ("k_dpmpp_2m", "DPMSolverMultistepScheduler", "dpm++ 2m")),
    SolverEntry("dpmpp_2m_sde", "DPM++ 2M SDE", dpmpp_2m_sde, ("k_dpmpp_2m_sde",)),
    SolverEntry("lcm", "LCM", lcm, ("LCMScheduler",)),
)
SOLVERS = {entry.name: entry for entry in ENTRIES}


def _plain(name: str) -> str:
    return name.lower().replace("++", "pp").replace(" ", "").replace("_", "").replace("-", "")


_BY_NAME = {_plain(name): entry for entry in ENTRIES for name in (entry.name, entry.label, *entry.aliases)}


def find_solver(name: str) -> tuple[SolverEntry, str | None]:
    """The solver of this name and the spacing that the name carries: "DPM++ 2M Karras" is dpmpp_2m and karras.

    Case, spaces, dashes and underscores do not matter.

    Raises:
        SpecError: for an unknown name, listing our names and labels.
    """
    plain = _plain(name)
    if plain in _BY_NAME:
        return _BY_NAME[plain], None
    for suffix, spacing in SUFFIXES.items():
        if plain.endswith(suffix) and plain.removesuffix(suffix) in _BY_NAME:
            return _BY_NAME[plain.removesuffix(suffix)], spacing
    known = ", ".join(f"{entry.name} ({entry.label})" for entry in ENTRIES)
    raise SpecError(explain(f"unknown solver {name!r}", f"there are: {known}", "a label may end in 'Karras' or 'Exponential'"))
