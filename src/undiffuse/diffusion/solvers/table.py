"""Every solver by every name that users know it by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.drive import Solver
from undiffuse.diffusion.solvers.adams import deis, ipndm, lms, plms
from undiffuse.diffusion.solvers.ddim import ddim, ddim_inverse
from undiffuse.diffusion.solvers.ddpm import ddpm
from undiffuse.diffusion.solvers.dpm2 import dpm_2, dpm_2_ancestral
from undiffuse.diffusion.solvers.dpmpp import dpmpp_2m, dpmpp_2s, dpmpp_2s_ancestral
from undiffuse.diffusion.solvers.dpmpp_sde import dpmpp_2m_sde, dpmpp_2m_sde_heun, dpmpp_3m_sde, dpmpp_sde
from undiffuse.diffusion.solvers.euler import euler, euler_ancestral
from undiffuse.diffusion.solvers.heun import heun
from undiffuse.diffusion.solvers.lcm import lcm
from undiffuse.diffusion.solvers.restart import restart
from undiffuse.diffusion.solvers.tcd import tcd
from undiffuse.diffusion.solvers.unipc import uni_pc, uni_pc_bh2

SUFFIXES = {
    "karras": "karras",
    "polyexponential": "exponential",
    "exponential": "exponential",
    "sgmuniform": "sgm_uniform",
    "ddimuniform": "ddim_uniform",
    "uniform": "linspace",
    "normal": "linspace",
    "simple": "simple",
    "beta": "beta",
    "kloptimal": "kl_optimal",
    "alignyoursteps": "align_your_steps",
    "ka": "karras",
    "exp": "exponential",
}
"""What old sampler names end in, and the spacing that it means."""

CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": math.inf, "s_noise": 1.0}
FRESH = {"eta": 1.0, "s_noise": 1.0}


@dataclass(frozen=True)
class SolverEntry:
    """A solver: our name (ComfyUI's where it has one), A1111's label, and whatever else it is called.

    `options` are the keyword arguments that its function takes beyond x, grid and noise, with their defaults.
    `takes_eta` says that a request's own `eta` is meant for it, as in DDIM, where the default is 0.
    """

    name: str
    label: str
    function: Callable[..., Solver]
    aliases: tuple[str, ...] = ()
    spacing: str = "trailing"
    takes_eta: bool = False
    options: Mapping[str, float] = field(default_factory=dict, hash=False)

    def settings(self, options: Mapping[str, float]) -> dict[str, float]:
        """These options as keyword arguments, whole numbers where the default is one.

        Raises:
            SpecError: for an option that this solver does not have, or a fraction where a whole number is needed.
        """
        for name, value in options.items():
            if name not in self.options:
                allowed = f"it takes {', '.join(self.options)}" if self.options else "it takes no options"
                raise SpecError(explain(f"solver option {name!r} with solver {self.name!r}", allowed, "leave it out"))
            if isinstance(self.options[name], int) and not float(value).is_integer():
                raise SpecError(explain(f"solver option {name} = {value}", "a whole number is needed"))
        return {name: type(self.options[name])(value) for name, value in options.items()}


ENTRIES = (
    SolverEntry("ddpm", "DDPM", ddpm, ("DDPMScheduler", "k_ddpm")),
    SolverEntry("ddim", "DDIM", ddim, ("DDIMScheduler", "k_ddim"), takes_eta=True, options={"eta": 0.0}),
    SolverEntry("ddim_inverse", "DDIM inverse", ddim_inverse, ("DDIMInverseScheduler",)),
    SolverEntry("plms", "PLMS", plms, ("PNDMScheduler", "pndm", "k_plms")),
    SolverEntry(
        "euler", "Euler", euler, ("k_euler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"), options=CHURN
    ),
    SolverEntry(
        "euler_ancestral",
        "Euler a",
        euler_ancestral,
        ("k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler"),
        options=FRESH,
    ),
    SolverEntry("heun", "Heun", heun, ("k_heun", "HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"), options=CHURN),
    SolverEntry("lms", "LMS", lms, ("k_lms", "LMSDiscreteScheduler"), options={"order": 4}),
    SolverEntry("dpm_2", "DPM2", dpm_2, ("k_dpm_2", "KDPM2DiscreteScheduler")),
    SolverEntry(
        "dpm_2_ancestral",
        "DPM2 a",
        dpm_2_ancestral,
        ("k_dpm_2_a", "k_dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
        options=FRESH,
    ),
    SolverEntry("dpmpp_2m", "DPM++ 2M", dpmpp_2m, ("k_dpmpp_2m", "DPMSolverMultistepScheduler")),
    SolverEntry("dpmpp_2s", "DPM++ 2S", dpmpp_2s, ("k_dpmpp_2s", "DPMSolverSinglestepScheduler")),
    SolverEntry(
        "dpmpp_2s_ancestral", "DPM++ 2S a", dpmpp_2s_ancestral, ("k_dpmpp_2s_a", "k_dpmpp_2s_ancestral"), options=FRESH
    ),
    SolverEntry("dpmpp_sde", "DPM++ SDE", dpmpp_sde, ("k_dpmpp_sde", "dpmpp_sde_gpu", "DPMSolverSDEScheduler"), options=FRESH),
    SolverEntry("dpmpp_2m_sde", "DPM++ 2M SDE", dpmpp_2m_sde, ("k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu"), options=FRESH),
    SolverEntry(
        "dpmpp_2m_sde_heun",
        "DPM++ 2M SDE Heun",
        dpmpp_2m_sde_heun,
        ("k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"),
        options=FRESH,
    ),
    SolverEntry("dpmpp_3m_sde", "DPM++ 3M SDE", dpmpp_3m_sde, ("k_dpmpp_3m_sde", "dpmpp_3m_sde_gpu"), options=FRESH),
    SolverEntry("uni_pc", "UniPC", uni_pc, ("k_unipc", "UniPCMultistepScheduler"), options={"order": 3}),
    SolverEntry("uni_pc_bh2", "UniPC BH2", uni_pc_bh2, options={"order": 3}),
    SolverEntry("deis", "DEIS", deis, ("k_deis", "DEISMultistepScheduler"), options={"order": 3}),
    SolverEntry("ipndm", "IPNDM", ipndm, ("k_ipndm", "IPNDMScheduler")),
    SolverEntry("lcm", "LCM", lcm, ("k_lcm", "LCMScheduler")),
    SolverEntry("tcd", "TCD", tcd, ("k_tcd", "TCDScheduler"), options={"gamma": 0.3}),
    SolverEntry("restart", "Restart", restart, ("k_restart",), options={"times": 1, "low": 0.1, "high": 2.0, "s_noise": 1.0}),
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
