"""Every spelling that users bring from elsewhere finds its solver; any other is refused with the list."""

from __future__ import annotations

import inspect

import pytest

from undiffuse.core.errors import SpecError
from undiffuse.diffusion.solvers.table import ENTRIES, SOLVERS, find_solver
from undiffuse.diffusion.spacings import SPACINGS

SPELLINGS = {
    "A1111 labels": {
        "Euler": ("euler", None),
        "Euler a": ("euler_ancestral", None),
        "Heun": ("heun", None),
        "DDIM": ("ddim", None),
        "DPM++ 2M": ("dpmpp_2m", None),
        "DPM++ 2M Karras": ("dpmpp_2m", "karras"),
        "DPM++ 2M Exponential": ("dpmpp_2m", "exponential"),
        "PLMS": ("plms", None),
        "LMS": ("lms", None),
        "LMS Karras": ("lms", "karras"),
        "DPM2": ("dpm_2", None),
        "DPM2 a": ("dpm_2_ancestral", None),
        "DPM2 Karras": ("dpm_2", "karras"),
        "DPM2 a Karras": ("dpm_2_ancestral", "karras"),
        "DPM++ 2S a": ("dpmpp_2s_ancestral", None),
        "DPM++ 2S a Karras": ("dpmpp_2s_ancestral", "karras"),
        "DPM++ SDE": ("dpmpp_sde", None),
        "DPM++ SDE Karras": ("dpmpp_sde", "karras"),
        "DPM++ 2M SDE": ("dpmpp_2m_sde", None),
        "DPM++ 2M SDE Karras": ("dpmpp_2m_sde", "karras"),
        "DPM++ 2M SDE Exponential": ("dpmpp_2m_sde", "exponential"),
        "DPM++ 2M SDE Heun": ("dpmpp_2m_sde_heun", None),
        "DPM++ 2M SDE Heun Karras": ("dpmpp_2m_sde_heun", "karras"),
        "DPM++ 2M SDE Heun Exponential": ("dpmpp_2m_sde_heun", "exponential"),
        "DPM++ 3M SDE": ("dpmpp_3m_sde", None),
        "DPM++ 3M SDE Karras": ("dpmpp_3m_sde", "karras"),
        "DPM++ 3M SDE Exponential": ("dpmpp_3m_sde", "exponential"),
        "UniPC": ("uni_pc", None),
        "LCM": ("lcm", None),
        "TCD": ("tcd", None),
        "Restart": ("restart", None),
        "Euler SGM Uniform": ("euler", "sgm_uniform"),
        "DPM++ 2M Align Your Steps": ("dpmpp_2m", "align_your_steps"),
        "DPM++ 2M Polyexponential": ("dpmpp_2m", "exponential"),
        "DPM++ 2M KL Optimal": ("dpmpp_2m", "kl_optimal"),
        "Euler a Normal": ("euler_ancestral", "linspace"),
    },
    "k-diffusion aliases": {
        "k_euler": ("euler", None),
        "k_euler_a": ("euler_ancestral", None),
        "k_euler_ancestral": ("euler_ancestral", None),
        "k_heun": ("heun", None),
        "k_dpmpp_2m": ("dpmpp_2m", None),
        "k_lms": ("lms", None),
        "k_lms_ka": ("lms", "karras"),
        "k_dpm_2": ("dpm_2", None),
        "k_dpm_2_a": ("dpm_2_ancestral", None),
        "k_dpm_2_a_ka": ("dpm_2_ancestral", "karras"),
        "k_dpmpp_2s_a": ("dpmpp_2s_ancestral", None),
        "k_dpmpp_sde": ("dpmpp_sde", None),
        "k_dpmpp_2m_ka": ("dpmpp_2m", "karras"),
        "k_dpmpp_2m_sde_exp": ("dpmpp_2m_sde", "exponential"),
        "k_dpmpp_3m_sde": ("dpmpp_3m_sde", None),
    },
    "ComfyUI": {
        "euler": ("euler", None),
        "euler_ancestral": ("euler_ancestral", None),
        "heun": ("heun", None),
        "ddim": ("ddim", None),
        "ddpm": ("ddpm", None),
        "dpmpp_2m": ("dpmpp_2m", None),
        "lms": ("lms", None),
        "dpm_2": ("dpm_2", None),
        "dpm_2_ancestral": ("dpm_2_ancestral", None),
        "dpmpp_2s_ancestral": ("dpmpp_2s_ancestral", None),
        "dpmpp_sde": ("dpmpp_sde", None),
        "dpmpp_sde_gpu": ("dpmpp_sde", None),
        "dpmpp_2m_sde": ("dpmpp_2m_sde", None),
        "dpmpp_2m_sde_gpu": ("dpmpp_2m_sde", None),
        "dpmpp_2m_sde_heun": ("dpmpp_2m_sde_heun", None),
        "dpmpp_3m_sde": ("dpmpp_3m_sde", None),
        "dpmpp_3m_sde_gpu": ("dpmpp_3m_sde", None),
        "uni_pc": ("uni_pc", None),
        "uni_pc_bh2": ("uni_pc_bh2", None),
        "deis": ("deis", None),
        "ipndm": ("ipndm", None),
        "lcm": ("lcm", None),
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
        "DPMSolverSinglestepScheduler": ("dpmpp_2s", None),
        "DPMSolverSDEScheduler": ("dpmpp_sde", None),
        "KDPM2DiscreteScheduler": ("dpm_2", None),
        "KDPM2AncestralDiscreteScheduler": ("dpm_2_ancestral", None),
        "LMSDiscreteScheduler": ("lms", None),
        "PNDMScheduler": ("plms", None),
        "IPNDMScheduler": ("ipndm", None),
        "DEISMultistepScheduler": ("deis", None),
        "UniPCMultistepScheduler": ("uni_pc", None),
        "LCMScheduler": ("lcm", None),
        "TCDScheduler": ("tcd", None),
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


@pytest.mark.parametrize("name", ["DPM adaptive", "DPM++ 4M", "euler b", "karras", "", "eulerr"])
def test_unknown_names_are_refused_with_all_that_there_are(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        find_solver(name)
    message = str(caught.value)
    assert message.startswith(f"unknown solver {name!r}; ")
    for entry in ENTRIES:
        assert f"{entry.name} ({entry.label})" in message
    assert "'Karras' or 'Exponential'" in message


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_options_are_the_arguments_of_the_function_with_their_defaults(entry) -> None:
    _, _, _, *more = inspect.signature(entry.function).parameters.values()
    numbers = {argument.name: argument.default for argument in more if not isinstance(argument.default, str)}
    assert dict(entry.options) == numbers
    assert entry.settings(entry.options) == numbers


def test_options_that_a_solver_does_not_have_are_refused() -> None:
    with pytest.raises(SpecError, match="solver option 'churn' with solver 'euler'; it takes s_churn, s_tmin, s_tmax, s_noise"):
        SOLVERS["euler"].settings({"churn": 1.0})
    with pytest.raises(SpecError, match="'eta' with solver 'plms'; it takes no options"):
        SOLVERS["plms"].settings({"eta": 1.0})


def test_a_whole_number_stays_one() -> None:
    found = SOLVERS["lms"].settings({"order": 2.0})
    assert found == {"order": 2}
    assert isinstance(found["order"], int)
    with pytest.raises(SpecError, match=r"solver option order = 2\.5; a whole number is needed"):
        SOLVERS["lms"].settings({"order": 2.5})
