"""Our own folder layout: `spec.json`, one `.safetensors` file a part, `tokenizer.json`, `thesaurus.json`, `README.md`.

A model folder holds autoencoder, denoiser and conditioner; a codec folder only the autoencoder. Both may hold a
decoder for previews. Nothing in them is executed and no Python path is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undiffuse.checkpoints.folder import CARD, SPEC, THESAURUS, TOKENIZER, replacing
from undiffuse.checkpoints.tensors import load_into, save_tensors
from undiffuse.conditioners.text import TextConditioner, TextSpec
from undiffuse.conditioners.thesaurus import Thesaurus
from undiffuse.core.errors import CheckpointError, UnknownFormat, explain
from undiffuse.core.spec import pick
from undiffuse.model.build import build_codec, build_model
from undiffuse.model.codec import Codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import CodecSpec, ModelSpec
from undiffuse.networks.autoencoder import Coder
from undiffuse.networks.text.wordpiece import load_wordpiece
from undiffuse.networks.tiny_decoder import TinyDecoder

MODEL_FORMAT = "undiffuse-model/1"
CODEC_FORMAT = "undiffuse-codec/1"


def read_spec(folder: Path) -> dict[str, Any]:
    """The content of `spec.json`.

    Raises:
        CheckpointError: when the folder is missing.
        UnknownFormat: when it holds no spec of ours.
    """
    if not folder.is_dir():
        raise CheckpointError(explain(f"no model at {str(folder)!r}", "a folder with spec.json is needed"))
    try:
        raw = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        known = raw["format"] in (MODEL_FORMAT, CODEC_FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        raise UnknownFormat(explain(f"{folder} is not in our format", "a folder with spec.json is needed")) from None
    if not known:
        given = f"{folder} is of format {raw['format']!r}"
        raise UnknownFormat(explain(given, f"this version reads {MODEL_FORMAT} and {CODEC_FORMAT}", "update undiffuse"))
    return raw


def save_codec(autoencoder: Coder, spec: CodecSpec, folder: Path, previewer: TinyDecoder | None = None) -> None:
    """Write an autoencoder with the normalisation of its latents; the folder appears whole or not at all.

    Raises:
        CheckpointError: when the folder holds files of something else.
    """
    with replacing(folder) as fresh:
        _write_json(fresh / SPEC, {"format": CODEC_FORMAT, **spec.model_dump(mode="json", exclude_none=True)})
        save_tensors(autoencoder.state_dict(), fresh / "autoencoder.safetensors")
        if previewer is not None:
            save_tensors(previewer.state_dict(), fresh / "preview.safetensors")


def load_codec_folder(folder: Path) -> tuple[Codec, CodecSpec]:
    """Read the codec of a codec folder or of a whole model.

    Raises:
        CheckpointError: when files are missing or do not fit the spec.
    """
    raw = read_spec(folder)
    if raw["format"] == MODEL_FORMAT:
        spec = ModelSpec.parse(raw, where=str(folder / SPEC)).codec
    else:
        spec = CodecSpec.parse({k: v for k, v in raw.items() if k != "format"}, where=str(folder / SPEC))
    codec = build_codec(spec)
    load_into(codec.autoencoder, folder / "autoencoder.safetensors")
    if codec.previewer is not None:
        load_into(codec.previewer, folder / "preview.safetensors")
    return codec, spec


def save_model_folder(
    model: LatentDiffusion, folder: Path, formats: Mapping[str, str] | None = None, card: str | None = None
) -> None:
    """Write a whole model; the folder appears whole or not at all.

    Args:
        model: what to write.
        folder: made when missing; a model in it is replaced.
        formats: a storage format for each part ("fp32", "fp16", "int8", "int4"); fp32 where none is named.
        card: the model card, Markdown.

    Raises:
        CheckpointError: when the folder holds files of something else.
        SpecError: for an unknown part or format.
    """
    parts, formats = model.parts(), formats or {}
    for name in formats:
        pick(parts, name, "part")
    with replacing(folder) as fresh:
        _write_json(fresh / SPEC, model.spec.model_dump(mode="json", exclude_none=True))
        for name, part in parts.items():
            save_tensors(part.state_dict(), fresh / f"{name}.safetensors", formats.get(name, "fp32"))
        for part in model.conditioner.parts:
            if isinstance(part, TextConditioner):
                part.tokenizer.save(str(fresh / TOKENIZER))
            if part.thesaurus is not None:
                _write_thesaurus(fresh / THESAURUS, part.thesaurus)
        if card is not None:
            (fresh / CARD).write_text(card, encoding="utf-8")


def load_model_folder(folder: Path) -> LatentDiffusion:
    """Read what `save_model_folder` wrote, in float32, ready for inference.

    Raises:
        CheckpointError: when files are missing or do not fit the spec.
        SpecError: when spec.json holds a wrong value.
    """
    raw = read_spec(folder)
    if raw["format"] != MODEL_FORMAT:
        given = f"{folder} holds an autoencoder only"
        raise CheckpointError(explain(given, "a whole model is needed", "train a denoiser on it with a diffusion recipe"))
    spec = ModelSpec.parse(raw, where=str(folder / SPEC))
    reads_text = any(isinstance(part, TextSpec) for part in spec.conditioners)
    model = build_model(spec, load_wordpiece(folder / TOKENIZER) if reads_text else None)
    for name, part in model.parts().items():
        load_into(part, folder / f"{name}.safetensors")
    for part, own in zip(model.conditioner.parts, spec.conditioners, strict=True):
        if isinstance(own, TextSpec) and own.thesaurus:
            part.thesaurus = _read_thesaurus(folder / THESAURUS)
    return model.eval()


def _write_thesaurus(path: Path, thesaurus: Thesaurus) -> None:
    """A line for everything that words are read as, with these words."""
    words: dict[str, list[str]] = {}
    for word, meant in sorted(thesaurus.meant.items()):
        words.setdefault(meant, []).append(word)
    lines = (f"{json.dumps(meant)}: {json.dumps(some)}" for meant, some in sorted(words.items()))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _read_thesaurus(path: Path) -> Thesaurus:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(word, meant) for meant, some in told.items() for word in some]
        if not all(isinstance(some, list) for some in told.values()) or not all(isinstance(word, str) for word, _ in pairs):
            raise ValueError("lists of words are expected")
        meant = {word.lower(): one for word, one in pairs}
        if len(meant) < len(pairs):
            raise ValueError("a word stands in it twice")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        given, allowed = f"{path} cannot be read: {error}", "it tells which words are read as others"
        raise CheckpointError(explain(given, allowed, "mend it, or copy the whole model folder again")) from None
    return Thesaurus(meant)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
