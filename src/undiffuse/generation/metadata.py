"""The `parameters` text of AUTOMATIC1111's web UI, which most tools read: written to the letter, read with care.

    a fox, 3d render
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4, Seed: 7, Size: 128x128, Model hash: ...

A value that holds a comma, a colon or a line break is quoted as JSON. The last line counts only when it
holds three pairs or more; everything above it is the prompt, then the negative prompt.
"""

from __future__ import annotations

import json
import re
from typing import Any

from undiffuse.core.errors import SpecError
from undiffuse.core.version import VERSION
from undiffuse.diffusion.solvers.table import find_solver
from undiffuse.generation.additions import Addition, hashes, tags
from undiffuse.generation.hires import Hires
from undiffuse.generation.request import Request
from undiffuse.generation.seed_profiles import check_seeds

SCHEDULE_TYPES = {
    "trailing": "SGM Uniform",
    "leading": "DDIM",
    "linspace": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "ddim_uniform": "DDIM",
    "simple": "Simple",
    "kl_optimal": "KL Optimal",
    "beta": "Beta",
    "align_your_steps": "Align Your Steps",
    "align_your_steps_xl": "Align Your Steps",
}
"""A1111's labels; where two spacings share one, it is read as the first."""
ALSO_READ = {"Normal": "linspace", "Polyexponential": "exponential"}
NEGATIVE = "Negative prompt:"
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
FEWEST_PAIRS = 3
AUTOMATIC = {
    **dict.fromkeys(("dpm_2", "dpm_2_ancestral", "dpmpp_2m", "dpmpp_2s_ancestral", "dpmpp_sde"), "karras"),
    **dict.fromkeys(("dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde"), "exponential"),
    **dict.fromkeys(("ddim", "plms", "uni_pc"), "leading"),
}
"""What A1111 takes for the schedule type "Automatic"; for all others "Uniform"."""
RNG = {"webui-cpu": "CPU", "webui-gpu": "NV"}
"""What A1111 calls where it draws; NV is its imitation of a GPU, and GPU itself goes unsaid."""
OF_WEBUI = re.compile(r"(f\d[\w.]*)?v\d+\.\d+\.\d+")  # A1111's own versions, and Forge's, which carry them along
UPSCALERS = {"latent": "Latent", "lanczos": "Lanczos"}
REPAINT_STEPS = "ddpm"  # what RePaint goes by, whatever solver a request names


def parameters_text(
    request: Request,
    model_name: str,
    model_hash: str,
    given: tuple[Addition, ...] = (),
    *,
    refiner: str = "",
    read_as: str = "",
) -> str:
    """The text for the one picture that `request` describes; its size must be known.

    `given` is what the model wore, `refiner` the name and the hash of what finished the picture: "NAME [HASH]"; `read_as`
    the words that were read as others: "hound: dog, cottage: house".
    """
    entry, _ = find_solver(REPAINT_STEPS if request.fill == "repaint" else request.solver)
    pairs: dict[str, Any] = {
        "Steps": request.steps,
        "Sampler": entry.label,
        "Schedule type": SCHEDULE_TYPES[request.spacing or entry.spacing],
        "CFG scale": f"{request.guidance:g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": model_hash,
        "Model": _unbroken(model_name),
    }
    if request.variation is not None and request.variation[1] > 0:
        pairs["Variation seed"], strength = request.variation
        pairs["Variation seed strength"] = f"{strength:g}"
    if request.image is not None:
        pairs["Denoising strength"] = f"{request.strength:g}"
    if request.sketch is not None:
        pairs["Sketch"] = f"{request.sketch:g}"
    if request.hires is not None:
        pairs |= _told_of_hires(request.hires)
    if request.refine_at is not None and refiner:
        pairs |= {"Refiner": _unbroken(refiner), "Refiner switch at": f"{request.refine_at:g}"}
    if request.clip_skip > 1:
        pairs["Clip skip"] = request.clip_skip
    if request.fill is not None:
        pairs["Mask fill"] = request.fill
    if request.noise_level is not None:
        pairs["Noise level"] = request.noise_level
    if request.label is not None:
        pairs["Label"] = request.label
    if read_as:
        pairs["Read as"] = read_as
    if request.eta:
        pairs["Eta"] = f"{request.eta:g}"
    if request.ensd:
        pairs["ENSD"] = request.ensd
    if request.seeds in RNG:
        pairs["RNG"] = RNG[request.seeds]
    pairs |= hashes(given)
    pairs["Version"] = f"undiffuse {VERSION}"
    lines = [f"{request.prompt}{tags(request, given)}"]
    if request.negative:
        lines.append(f"{NEGATIVE} {request.negative}")
    lines.append(", ".join(f"{key}: {_quoted(str(value))}" for key, value in pairs.items()))
    return "\n".join(lines)


def parse_parameters(text: str) -> dict[str, Any]:
    """The fields of a `Request` that a `parameters` text tells; settings that we have no field for are passed over."""
    *lines, last = text.strip().split("\n")
    pairs = {key: _unquoted(value.strip()) for key, value in PAIR.findall(last)}
    if len(pairs) < FEWEST_PAIRS:
        lines, pairs = [*lines, last], {}
    prompt, _, negative = "\n".join(lines).partition(NEGATIVE)
    told = {"prompt": prompt.strip(), "negative": negative.strip(), **_settings(pairs)}
    return {name: value for name, value in told.items() if value is not None}


def _settings(pairs: dict[str, str]) -> dict[str, Any]:
    spacings = {label: name for name, label in reversed(SCHEDULE_TYPES.items())} | ALSO_READ
    width, _, height = pairs.get("Size", "").partition("x")
    seeds = _seeds(pairs)
    return {
        "steps": pairs.get("Steps"),
        "solver": pairs.get("Sampler"),
        "spacing": spacings.get(pairs.get("Schedule type", "")) or (_automatic(pairs) if seeds else None),
        "guidance": pairs.get("CFG scale"),
        "clip_skip": pairs.get("Clip skip"),
        "seed": pairs.get("Seed"),
        "seeds": seeds,
        "ensd": pairs.get("ENSD") if seeds else None,
        "variation": _variation(pairs),
        "width": width or None,
        "height": height or None,
        "strength": None if any(key.startswith("Hires") for key in pairs) else pairs.get("Denoising strength"),
        "hires": _hires(pairs) if "Hires upscale" in pairs else None,
        "sketch": pairs.get("Sketch"),
        "refine_at": pairs.get("Refiner switch at"),
        "label": pairs.get("Label"),
        "eta": pairs.get("Eta"),
    }


def _seeds(pairs: dict[str, str]) -> str | None:
    """Whose numbers the seed stands for: the web UI's where it says so, or is it and says nothing; None where they are ours.

    Noise that is not known to be drawn as there is no reason to refuse a picture: then too they are ours.
    """
    of_webui = OF_WEBUI.match(pairs.get("Version", "")) is not None
    named = {label: name for name, label in RNG.items()} | {"GPU": "webui-gpu"}
    seeds = named.get(pairs.get("RNG", "GPU" if of_webui else ""))
    if seeds is None:
        return None
    try:
        check_seeds(seeds, find_solver(pairs.get("Sampler", "DPM++ 2M"))[0], float(pairs.get("Eta", 0)), {}, None)
    except (SpecError, ValueError):
        return None
    return seeds


def _automatic(pairs: dict[str, str]) -> str:
    """How the web UI spaces levels that a text says nothing of, beyond what an old name of a sampler says."""
    entry, named = find_solver(pairs.get("Sampler", "DPM++ 2M"))
    automatic = AUTOMATIC.get(entry.name, "linspace") if pairs.get("Schedule type") == "Automatic" else "linspace"
    return named or automatic


def _variation(pairs: dict[str, str]) -> tuple[str, str] | None:
    seed, strength = pairs.get("Variation seed"), pairs.get("Variation seed strength")
    return (seed, strength) if seed is not None and strength is not None else None


def _told_of_hires(hires: Hires) -> dict[str, Any]:
    """As A1111 writes it, which tells the strength of a second pass under the name of that of a picture to start from."""
    steps = {} if hires.steps is None else {"Hires steps": hires.steps}
    told = {"Denoising strength": f"{hires.strength:g}", "Hires upscale": f"{hires.scale:g}"}
    return {**told, **steps, "Hires upscaler": UPSCALERS[hires.upscaler]}


def _hires(pairs: dict[str, str]) -> dict[str, Any]:
    """The fields of a second pass; an upscaler that we lack stays as it is called."""
    names = {label: name for name, label in UPSCALERS.items()}
    upscaler = pairs.get("Hires upscaler")
    told = {
        "scale": pairs["Hires upscale"],
        "strength": pairs.get("Denoising strength"),
        "steps": None if pairs.get("Hires steps") == "0" else pairs.get("Hires steps"),
        "upscaler": None if upscaler is None else names.get(upscaler, upscaler),
    }
    return {name: value for name, value in told.items() if value is not None}


def _unbroken(name: str) -> str:
    """The name of a model without what would need quotes, on which readers break."""
    return re.sub(r"[,:\s]+", " ", name).strip()


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def _unquoted(value: str) -> str:
    if not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
