"""Textual inversion: files of learned words, as A1111's web UI, diffusers and trainers for Stable Diffusion XL write them.

A1111 .pt            {"string_to_param": {"*": (N, D)}, "name": …, "step": …}
A1111 .safetensors   {"emb_params": (N, D)}
diffusers            {"<token>": (N, D) or (D,)}, possibly several
XL                   {"clip_l": (N, 768), "clip_g": (N, 1280)}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.checkpoints.file_hashes import whole_hash
from undiffuse.checkpoints.foreign_tensors import read_tensors, unpickled
from undiffuse.checkpoints.headers import PICKLES
from undiffuse.core.errors import MissingKeys, UnknownFormat, explain
from undiffuse.networks.text.learned import LearnedWord

PARAMS = "string_to_param"
ONE = "emb_params"
XL = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
SHOWN = 4


def read_words(path: str | Path, name: str | None = None) -> list[LearnedWord]:
    """The learned words in a file: one, or in diffusers' files several.

    Args:
        path: .safetensors, or .pt and the like.
        name: what to call the word. By default diffusers' words keep their own name; others are called as their file, which
            is how A1111's users write them in prompts.

    Raises:
        CheckpointError: when the file cannot be read, or is a pickle with more than tensors.
        UnknownFormat: when it holds no learned word, or something beside.
        MissingKeys: when it holds one of XL's two halves alone.
    """
    path = Path(path)
    table, header = _table(path)
    digest = whole_hash(path)
    found = _vectors(table, path)
    if name is not None and len(found) > 1:
        raise UnknownFormat(explain(f"{path} holds {len(found)} words", "a name is for one", "leave the name out"))
    return [LearnedWord(name or token or path.stem, vectors, str(path), digest, header) for token, vectors in found.items()]


def _table(path: Path) -> tuple[Mapping[Any, Any], dict[str, str]]:
    """What a file holds, possibly tables in tables, and the texts of its header."""
    if path.suffix.lower() not in PICKLES or not path.is_file():
        return read_tensors(path)
    with torch.serialization.safe_globals([nn.ParameterDict]):  # of early files
        found = unpickled(path)
    if not isinstance(found, Mapping):
        raise _strange(path, f"a {type(found).__name__}")
    return found, {}


def _vectors(table: Mapping[Any, Any], path: Path) -> dict[str, tuple[Tensor, ...]]:
    """Vectors by the name that the file itself gives them, "" when it gives none."""
    if PARAMS in table:
        values = list(_parameters(table[PARAMS]).values())
        if len(values) != 1:
            raise _strange(path, f"{len(values)} words under {PARAMS!r}")
        return {"": (_rows(values[0], path),)}
    if ONE in table and len(table) == 1:
        return {"": (_rows(table[ONE], path),)}
    for pair in XL:
        if set(table) & set(pair):
            if set(table) != set(pair):
                allowed = f"a word for Stable Diffusion XL has {pair[0]} and {pair[1]}"
                raise MissingKeys(explain(f"{path} holds {', '.join(map(str, table))}", allowed, "get the whole file"))
            halves = tuple(_rows(table[key], path) for key in pair)
            if len(halves[0]) != len(halves[1]):
                given = f"{path} holds {len(halves[0])} and {len(halves[1])} vectors"
                raise MissingKeys(explain(given, "both text encoders need as many", "get the whole file"))
            return {"": halves}
    if not table or any("." in str(token) for token in table) or ONE in table:
        raise _strange(path, ", ".join(map(str, list(table)[:SHOWN])) or "nothing")
    return {str(token): (_rows(value, path),) for token, value in table.items()}


def _parameters(params: Any) -> Mapping[str, Any]:
    """What is in a table of parameters; early files hold a module in its place."""
    if isinstance(params, nn.ParameterDict):
        return vars(params).get("_parameters", {})
    return params if isinstance(params, Mapping) else {}


def _rows(value: Any, path: Path) -> Tensor:
    """Vectors (N, D) of what may be a single one (D,)."""
    if not isinstance(value, Tensor) or value.ndim not in (1, 2) or not value.is_floating_point() or not value.numel():
        raise _strange(path, f"a {type(value).__name__} where vectors should be")
    return value.detach().reshape(-1, value.shape[-1])


def _strange(path: Path, given: str) -> UnknownFormat:
    return UnknownFormat(
        explain(f"{path} holds {given}", "that is no learned word as we know them", "is it a LoRA, or a model?")
    )
