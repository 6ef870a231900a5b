"""What the package promises about its names and its weight on import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import undiffuse

PUBLIC = [
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
HEAVY = {"torch", "numpy", "PIL", "pydantic", "rich", "typer", "safetensors", "tokenizers", "huggingface_hub"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after this code."""
    told = "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + told], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_public_names_are_pinned() -> None:
    assert undiffuse.__all__ == PUBLIC
    assert dir(undiffuse) == PUBLIC
    assert len(PUBLIC) <= 20


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(undiffuse, name) is not None


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = undiffuse.nonsense


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import undiffuse") & HEAVY


def test_the_errors_can_be_caught_without_torch() -> None:
    assert not loaded_by("import undiffuse; undiffuse.UndiffuseError") & HEAVY


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "generate --help",
        "train --help",
        "data --help",
        "explain --help",
        "trace --help",
        "verify --help",
        "inspect",
        "bogus",
    ],
)
def test_commands_that_compute_nothing_load_no_torch(words: str) -> None:
    code = f"from undiffuse.cli.main import run; run({words.split()!r})"

    assert not loaded_by(code) & {"torch", "numpy", "PIL", "rich", "safetensors", "tokenizers"}
