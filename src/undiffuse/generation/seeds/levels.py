"""The levels of a run, as the program counts steps whose seeds a request has.

What differs is how many steps a strength leaves, and that some solvers leave out the last level but one.
"""

from __future__ import annotations

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.dyadic import ends
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.schedule import Schedule
from undiffuse.diffusion.solvers.table import find_solver
from undiffuse.generation.request import Request
from undiffuse.generation.seed_profiles import TREES

COMFYUI_LEAVES_OUT = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})
WEBUI_LEAVES_OUT = frozenset({"dpm_2", "dpm_2_ancestral", "dpmpp_3m_sde"})
WHOLE = 0.9999  # a strength from which ComfyUI takes it for 1
MOST = 0.999  # and one that the web UI never exceeds


def grid_as(request: Request, schedule: Schedule) -> Grid:
    """The levels that a request visits; when it starts from a picture, those that its strength leaves.

    When it starts from a sketch, as many steps as it asks for over what is left of the way.

    Raises:
        SpecError: when there are more steps than levels, or the strength leaves none.
    """
    if request.sketch is not None:
        return make_grid(schedule, request.steps, _spacing(request)).nearer(request.sketch)
    strength = request.strength if request.image is not None else 1.0
    if request.seeds == "native":
        return make_grid(schedule, request.steps, _spacing(request), strength=strength)
    whole = whole_grid(request, schedule)
    if request.image is None:
        return whole
    if request.seeds.startswith("diffusers"):
        kept = int(request.steps * strength)
    elif request.seeds.startswith("comfyui"):
        kept = request.steps
    else:
        kept = int(min(strength, MOST) * request.steps) + 1
    if kept < 1:
        given = f"strength = {strength} of {request.steps} steps"
        raise SpecError(explain(given, f"it leaves no step with seeds {request.seeds!r}", "raise one of them"))
    return Grid(whole.levels[-kept - 1 :], schedule)


def check_path(request: Request, schedule: Schedule) -> None:
    """Refuse Brownian noise of another program on a schedule that has no such paths, before anything is drawn.

    Raises:
        SpecError: when the run begins at zero SNR.
    """
    if request.solver in TREES and request.seeds.startswith(("comfyui", "webui")):
        ends(whole_grid(request, schedule))


def whole_grid(request: Request, schedule: Schedule) -> Grid:
    """All the levels that the strength takes the last of."""
    steps, left_out = request.steps, False
    if request.seeds.startswith("comfyui"):
        left_out = request.solver in COMFYUI_LEAVES_OUT
        if request.image is not None and request.strength <= WHOLE:
            steps = int(steps / request.strength)
    elif request.seeds.startswith("webui"):
        left_out = request.solver in WEBUI_LEAVES_OUT
    grid = make_grid(schedule, steps + left_out, _spacing(request))
    return Grid((*grid.levels[:-2], grid.levels[-1]), schedule) if left_out else grid


def _spacing(request: Request) -> str:
    return request.spacing or find_solver(request.solver)[0].spacing
