"""undiffuse: train, run, edit, serve and explain latent diffusion models.

    model  = undiffuse.load_model()                     # the embedded default, a path or a hub id
    draw   = undiffuse.Generator(model)                 # picks device and precision, tells which
    result = draw(undiffuse.Request("a fox, 3d render, on a blue background", seed=7))
    result.images[0].save("fox.png")                    # the request travels inside the PNG

Names are imported when they are first used: `import undiffuse` alone takes no time and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from undiffuse.core.version import VERSION as __version__

if TYPE_CHECKING:
    from undiffuse.checkpoints.adapters import add_embedding, add_lora
    from undiffuse.checkpoints.api import load_model, save_model
    from undiffuse.core.conditioning import Conditioning
    from undiffuse.core.errors import UndiffuseError
    from undiffuse.generation.generator import Generator, Result
    from undiffuse.generation.output import read_request
    from undiffuse.generation.request import Request
    from undiffuse.model.latent_diffusion import LatentDiffusion
    from undiffuse.training.recipe import load_recipe
    from undiffuse.training.run import train

__all__ = [
    "Conditioning",
    "Generator",
    "LatentDiffusion",
    "Request",
    "Result",
    "UndiffuseError",
    "__version__",
    "add_embedding",
    "add_lora",
    "load_model",
    "load_recipe",
    "read_request",
    "save_model",
    "train",
]

_HOMES = {
    "Conditioning": "undiffuse.core.conditioning",
    "Generator": "undiffuse.generation.generator",
    "LatentDiffusion": "undiffuse.model.latent_diffusion",
    "Request": "undiffuse.generation.request",
    "Result": "undiffuse.generation.generator",
    "UndiffuseError": "undiffuse.core.errors",
    "add_embedding": "undiffuse.checkpoints.adapters",
    "add_lora": "undiffuse.checkpoints.adapters",
    "load_model": "undiffuse.checkpoints.api",
    "load_recipe": "undiffuse.training.recipe",
    "read_request": "undiffuse.generation.output",
    "save_model": "undiffuse.checkpoints.api",
    "train": "undiffuse.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'undiffuse' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
