"""What a model file or folder holds, in words and numbers, from headers alone. Needs no torch."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undiffuse.checkpoints.detect import ASIDE, detect, other_kind
from undiffuse.checkpoints.headers import PICKLES, SCALE, SCALES4, SHAPE4, read_header, shapes_of
from undiffuse.checkpoints.lora_detect import base_of_lora, kind_of_lora
from undiffuse.checkpoints.pickled_headers import read_pickle_header
from undiffuse.core.errors import CheckpointError, UnknownFormat, explain

ASIDE_IN_FOLDERS = {"depth_estimator": ASIDE["depth_model"], "feature_extractor": "it prepares pictures for that"}
IN_A_BYTE = 2  # numbers of 4 bits; a row is filled up to whole groups, which are counted too
SPEC, INDEX = "spec.json", "model_index.json"


def describe_folder(path: Path) -> dict[str, Any]:
    """A folder of ours: its spec and its files; or of a diffusers pipeline: what it is made of.

    Raises:
        UnknownFormat: when it is neither.
        CheckpointError: when its JSON is damaged.
    """
    for told, kind in ((SPEC, "spec"), (INDEX, "pipeline")):
        files = sorted(path.glob("*.safetensors" if kind == "spec" else "*/*.safetensors"))
        if (path / told).is_file() and files:
            found = {str(file.relative_to(path)): describe_file(file, part=True) for file in files}
            more = _more(path, _json(path / told)) if kind == "pipeline" else {}
            return {kind: _json(path / told), **more, "files": found}
    allowed = f"a model folder has {SPEC} and *.safetensors, one of diffusers {INDEX} and a folder a part"
    remedy = "name a file inside it to see that one"
    raise UnknownFormat(explain(f"{path} is no model folder", allowed, remedy))


def describe_file(path: Path, part: bool = False) -> dict[str, Any]:
    """Counts over the tensors of a file: how many, how many numbers, in which types, under which names; and what it is.

    Scales of numbers in 8 or 4 bits are no numbers of the model.

    Args:
        path: .safetensors, or a pickle, of which nothing is run.
        part: of a folder that tells itself what it is.

    Raises:
        CheckpointError, UnknownFormat: when it is missing, damaged or no such file.
    """
    strange: list[str] = []
    if path.suffix.lower() in PICKLES:
        pickled = read_pickle_header(path)
        header, metadata, strange = pickled.tensors, {}, pickled.strange
    else:
        header = read_header(path)
        metadata = header.pop("__metadata__", {})
    numbers: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    beside = (SCALE, SCALES4, SHAPE4) if "undiffuse" in metadata else ()
    own = {name: tensor for name, tensor in header.items() if not name.endswith(beside)}
    for name, tensor in own.items():
        count = math.prod(tensor["shape"]) * (IN_A_BYTE if name + SCALES4 in header else 1)
        numbers[tensor["dtype"]] += count
        parts[name.split(".")[0]] += count
    return {
        "bytes": path.stat().st_size,
        "tensors": len(own),
        "parameters": sum(numbers.values()),
        "types": dict(numbers.most_common()),
        "parts": dict(parts.most_common()),
        **({} if part or "undiffuse" in metadata else _kind(shapes_of(header), metadata, strange)),
        "metadata": metadata,
    }


def _kind(shapes: dict[str, tuple[int, ...]], metadata: Mapping[str, str], strange: list[str]) -> dict[str, Any]:
    """What a file that others wrote is, and what stands in its way."""
    if strange:
        given = f"it asks for {', '.join(strange)}, and a pickle may run what it asks for"
        return {"kind": "a pickle of more than tensors", "readable": False, "remedy": f"{given}: it is not read"}
    try:
        found = detect(shapes, metadata)
    except UnknownFormat as error:
        return _other(shapes, metadata, str(error))
    remedy = "" if found.prediction else "it must be told: undiffuse convert FILE --to native --prediction v --out FOLDER"
    return {
        "kind": found.words,
        "family": found.family,
        "prediction": found.prediction,
        "inpainting": found.inpainting,
        "channels": found.channels,
        "aside": found.unread,
        "ema": found.ema,
        "readable": True,
        "remedy": remedy,
    }


def _other(shapes: dict[str, tuple[int, ...]], metadata: Mapping[str, str], refused: str) -> dict[str, Any]:
    """Something that is no whole checkpoint: what it is for, or why it is not read."""
    kind = other_kind(shapes)
    uses = {
        "a LoRA": "add it with --lora FILE, or FILE:0.8",
        "a textual inversion": "add it with --embedding FILE, and name it in the prompt",
        "an autoencoder alone": "draw with it by --vae FILE",
    }
    told: dict[str, Any] = {"kind": kind, "readable": kind in uses, "remedy": uses.get(kind, refused)}
    if kind == "a LoRA":
        base = base_of_lora(shapes, metadata)
        told |= {"kind": f"{kind_of_lora(shapes)} for {base or 'a model that it does not tell'}", "base": base}
    return told


def _more(path: Path, index: Mapping[str, Any]) -> dict[str, Any]:
    """Of a pipeline how many channels come into its U-Net, and which of its parts are left aside."""
    config = path / "unet" / "config.json"
    channels = _json(config).get("in_channels") if config.is_file() else None
    there = [part for part in ASIDE_IN_FOLDERS if (index.get(part) or [None])[0]]
    there = there if "depth_estimator" in there else []
    return {"channels": channels, "aside": [f"{part}: not read, {ASIDE_IN_FOLDERS[part]}" for part in there]}


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(explain(f"{path} is not valid JSON: {error}", "the file must be whole")) from None
