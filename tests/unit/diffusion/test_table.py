"""Every spelling that users bring from elsewhere finds its solver; any other is refused with the list."""

from __future__ import annotations

import pytest

from undiffuse.core.errors import SpecError
from undiffuse.diffusion.grid import SPACINGS
from undiffuse.diffusion.solvers.table import ENTRIES, SOLVERS, find_solver

SPELLINGS = {
    "A1111 labels": {
        "Euler": ("euler", None),
        "Euler a": ("euler_ancestral", None),
        "Heun": ("heun", None),
        "DDIM": ("ddim", None),
        "DPM++ 2M": ("dpmpp_2m", None),
        "DPM++ 2M Karras": ("dpmpp_2m", "karras"),
        "DPM++ 2M Exponential": ("dpmpp_2m", "exponential"),
    },
    "k-diffusion aliases": {
        "k_euler": ("euler", None),
        "k_euler_a": ("euler_ancestral", None),
        "k_euler_ancestral": ("euler_ancestral", None),
        "k_heun": ("heun", None),
        "k_dpmpp_2m": ("dpmpp_2m", None),
    },
    "ComfyUI": {
        "euler": ("euler", None),
        "euler_ancestral": ("euler_ancestral", None),
        "heun": ("heun", None),
        "ddim": ("ddim", None),
        "ddpm": ("ddpm", None),
        "dpmpp_2m": ("dpmpp_2m", None),
    },
    "diffusers": {
        "DDIMScheduler": ("ddim", None),
        "DDIMInverseScheduler": ("ddim_inverse", None),
        "DDPMScheduler": ("ddpm", None),
        "EulerDiscreteScheduler": ("euler", None),
        "EulerAncestralDiscreteScheduler": ("euler_ancestral", None),
        "FlowMatchEulerDiscreteScheduler": ("euler", None),
        "HeunDiscreteScheduler": ("heun", None),
        "DPMSolverMultistepScheduler": ("dpmpp_2m", None),
    },
    "case, blanks, dashes": {
        "dpm++ 2m karras": ("dpmpp_2m", "karras"),
        "DPM++_2M-Karras": ("dpmpp_2m", "karras"),
        "dpmpp_2m_karras": ("dpmpp_2m", "karras"),
        "EULER A": ("euler_ancestral", None),
        "euler karras": ("euler", "karras"),
    },
}
CASES = [(spelling, *found) for group in SPELLINGS.values() for spelling, found in group.items()]


@pytest.mark.parametrize(("spelling", "name", "spacing"), CASES)
def test_spellings_of_other_programs_resolve(spelling: str, name: str, spacing: str | None) -> None:
    entry, carried = find_solver(spelling)
    assert entry is SOLVERS[name]
    assert carried == spacing


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_is_found_by_all_of_its_names_and_stands_on_a_known_spacing(entry) -> None:
    for name in (entry.name, entry.label, *entry.aliases):
        assert find_solver(name) == (entry, None)
    assert entry.spacing in SPACINGS


def test_no_name_means_two_solvers() -> None:
    names = [name.lower() for entry in ENTRIES for name in {entry.name.lower(), entry.label.lower(), *entry.aliases}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["DPM++ 3M SDE", "unipc", "euler b", "karras", "", "eulerr"])
def test_unknown_names_are_refused_with_all_that_there_are(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        find_solver(name)
    message = str(caught.value)
    assert message.startswith(f"unknown solver {name!r}; ")
    for entry in ENTRIES:
        assert f"{entry.name} ({entry.label})" in message
    assert "'Karras' or 'Exponential'" in message
