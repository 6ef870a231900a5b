"""LoRA files: kohya's, diffusers', PEFT's and LyCORIS's, read whole or not at all; the first three are written too.

| form      | names                                                        | alpha                                   |
|-----------|--------------------------------------------------------------|-----------------------------------------|
| kohya     | lora_unet_down_blocks_0_….lora_down.weight, lora_te1_…       | a tensor a layer                        |
| XL kohya  | lora_unet_input_blocks_4_1_….lora_down.weight                | the same                                |
| LyCORIS   | as kohya, ….hada_w1_a, ….lokr_w1, ….dora_scale               | the same                                |
| diffusers | unet.down_blocks.0.….lora_A.weight, or .lora.down.weight     | PEFT's settings in the header           |
| old       | ….attn1.processor.to_q_lora.down.weight                      | the rank                                |
| PEFT      | base_model.model.down_blocks.0.….lora_A.weight               | `adapter_config.json` beside it         |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from undiffuse.checkpoints.file_hashes import lora_hash
from undiffuse.checkpoints.foreign_tensors import read_tensors, write_tensors
from undiffuse.checkpoints.lora_alphas import BESIDE, HEADER, WEIGHTS, Alphas, Row, config_of, header_of
from undiffuse.checkpoints.lora_base import mismatch
from undiffuse.checkpoints.lora_names import LayerNames, Place, flat, names_of
from undiffuse.checkpoints.lora_slots import MAGNITUDE, ROWS, split, tensors_of, term_of
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch, explain
from undiffuse.core.spec import pick
from undiffuse.model.adapters import Lora
from undiffuse.networks.added import check_fit
from undiffuse.networks.lora import Decomposed, LowRank, Term

PEFT_PREFIX = "base_model.model."
PROCESSOR = ".processor"
SHOWN = 6
KEPT = "write it in the form 'kohya', which holds everything"


def read_lora(path: str | Path, nets: Mapping[str, nn.Module], name: str | None = None) -> Lora:
    """The terms in a file for these nets; every tensor of the file has found its place in one of them.

    Args:
        path: .safetensors, or .pt and the like.
        nets: by the names "unet", "text_encoder" and "text_encoder_2"; only names and shapes of their layers count.
        name: what to call it; the name of the file by default.

    Raises:
        CheckpointError: when the file cannot be read.
        MissingKeys: when there are tensors without a place or layers of which some are missing, listing them.
        ShapeMismatch: when terms are of another shape than their layers.
    """
    path = Path(path)
    tensors, header = read_tensors(path)
    names = names_of(nets)
    layers, strange = _sorted(tensors, names)
    if strange or not layers:
        given = f"{path} holds {len(strange)} of {len(tensors)} tensors that have no place in this model: {_some(strange)}"
        allowed = "nothing of a file is ever left out"
        raise MissingKeys(explain(given if strange else f"{path} holds no tensors", allowed, mismatch(tensors, header, nets)))
    alphas = Alphas.find(path, header)
    terms: dict[str, dict[str, Term]] = {}
    broken: list[str] = []
    for place, found in layers.items():
        rank = len(found["lora_down.weight"]) if "lora_down.weight" in found else 1
        term = term_of(found, alphas.of(place.net, names.diffusers[place], rank))
        if term is None:
            broken.append(f"{names.diffusers[place]} ({', '.join(found)})")
        else:
            terms.setdefault(place.net, {})[place.path] = term
    if broken:
        allowed = "each layer needs all parts of one kind: LoRA, LoHa or LoKr"
        raise MissingKeys(explain(f"{path} tells {len(broken)} layers in part: {_some(broken)}", allowed, "fetch it anew"))
    for net, inside in terms.items():
        try:
            check_fit(nets[net], inside)
        except ShapeMismatch as error:
            given = f"{path}: {str(error).partition(';')[0]}"
            raise ShapeMismatch(explain(given, "shapes must be those of the model", mismatch(tensors, header, nets))) from None
    return Lora(name or path.stem, terms, str(path), lora_hash(path, header), header)


def _sorted(tensors: Mapping[str, Tensor], names: LayerNames) -> tuple[dict[Place, dict[str, Tensor]], list[str]]:
    """Tensors by layer and ending, and the names that have no place or share one."""
    places = names.places()
    layers: dict[Place, dict[str, Tensor]] = {}
    strange: list[str] = []
    for name, tensor in tensors.items():
        key = split(name)
        place = places.get(flat(key.layer.removeprefix(PEFT_PREFIX).replace(PROCESSOR, ""))) if key else None
        if key is None or place is None or key.ending in layers.get(place, ()):
            strange.append(name)
        else:
            layers.setdefault(place, {})[key.ending] = tensor
    return layers, strange


def save_lora(lora: Lora, path: str | Path, nets: Mapping[str, nn.Module], form: str = "kohya") -> None:
    """Write a LoRA; reading it again gives the same terms to the bit.

    Args:
        lora: what to write; the texts of its header go along.
        path: of a .safetensors file, which appears whole or not at all; PEFT's has a name of its own, and a file beside it.
        nets: those that it was read for.
        form: "kohya", which all programs read, "diffusers", which holds LoRA and DoRA only, or "peft", which holds those of
            one net alone.

    Raises:
        SpecError: for another form.
        CheckpointError: when the form cannot hold it.
    """
    path, written = Path(path), pick(FORMS, form, "form of LoRA files")(lora, names_of(nets))
    if written.beside and path.name != WEIGHTS:
        raise CheckpointError(explain(f"a file {path.name!r} in PEFT's form", f"PEFT reads {WEIGHTS}", "name it so"))
    kept = {key: text for key, text in lora.header.items() if key != HEADER}
    if written.beside:
        (path.parent / BESIDE).write_text(written.beside, encoding="utf-8")
    write_tensors({name: tensor.contiguous() for name, tensor in written.tensors.items()}, path, kept | written.header)


class Written(NamedTuple):
    """What is in a file: tensors, texts of its header, and the text of a file beside it, if there is one."""

    tensors: dict[str, Tensor]
    header: dict[str, str]
    beside: str = ""


def _as_kohya(lora: Lora, names: LayerNames) -> Written:
    each = ((names.kohya(place), ending, value) for place, term in _each(lora) for ending, value in tensors_of(term).items())
    return Written({f"{layer}.{ending}": value for layer, ending, value in each}, {})


def _as_diffusers(lora: Lora, names: LayerNames) -> Written:
    tensors, rows = _in_factors(lora, names, "diffusers files hold")
    told = any(row.alpha is not None for net in rows.values() for row in net)
    return Written({f"{net}.{name}": tensor for net, name, tensor in tensors}, header_of(rows) if told else {})


def _as_peft(lora: Lora, names: LayerNames) -> Written:
    if len(lora.terms) > 1:
        given = f"{lora.name} is for {' and '.join(lora.terms)}"
        raise CheckpointError(explain(given, "PEFT's files hold one net", "write it in the form 'diffusers', or 'kohya'"))
    tensors, rows = _in_factors(lora, names, "PEFT's files hold")
    ((_, told),) = rows.items()
    return Written({f"{PEFT_PREFIX}{name}": tensor for _, name, tensor in tensors}, {}, config_of(told))


def _in_factors(lora: Lora, names: LayerNames, holds: str) -> tuple[list[tuple[str, str, Tensor]], dict[str, list[Row]]]:
    """Net, name and numbers of every factor as diffusers and PEFT call them, and what is told of each layer by net."""
    tensors: list[tuple[str, str, Tensor]] = []
    rows: dict[str, list[Row]] = {}
    for place, term in _each(lora):
        inner = term.inner if isinstance(term, Decomposed) else term
        if not isinstance(inner, LowRank) or inner.mid is not None:
            given = f"{lora.name} holds a {type(inner).__name__} term" + (" with a core" if isinstance(inner, LowRank) else "")
            raise CheckpointError(explain(given, f"{holds} plain LoRA", KEPT))
        layer = names.diffusers[place]
        tensors += [(place.net, f"{layer}.lora_A.weight", inner.down), (place.net, f"{layer}.lora_B.weight", inner.up)]
        if isinstance(term, Decomposed):
            tensors.append((place.net, f"{layer}.{ROWS}", _peft_rows(term, lora.name, holds)))
        rows.setdefault(place.net, []).append(Row(layer, len(inner.down), inner.alpha, isinstance(term, Decomposed)))
    return tensors, rows


def _peft_rows(term: Decomposed, name: str, holds: str) -> Tensor:
    """Lengths of rows (out,), of kernels (1, out, 1, 1), as PEFT stores them."""
    if term.magnitude.numel() != term.magnitude.shape[0]:
        given = f"{name} holds DoRA of columns ({MAGNITUDE} {tuple(term.magnitude.shape)})"
        raise CheckpointError(explain(given, f"{holds} that of rows", KEPT))
    return term.magnitude.reshape(-1) if term.magnitude.ndim <= 2 else term.magnitude.transpose(0, 1)


def _each(lora: Lora) -> list[tuple[Place, Term]]:
    return [(Place(net, path), term) for net, terms in lora.terms.items() for path, term in terms.items()]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


FORMS: dict[str, Any] = {"kohya": _as_kohya, "diffusers": _as_diffusers, "peft": _as_peft}
