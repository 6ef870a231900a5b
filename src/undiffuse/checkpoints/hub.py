"""Models on the Hugging Face hub, through huggingface_hub and its cache: ours, diffusers pipelines, and single files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from undiffuse.core.errors import CheckpointError, UnknownFormat, explain

HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?(?::([\w./-]+))?")
OURS, PIPELINE = "spec.json", "model_index.json"
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")  # of a pipeline, those that hold weights that are read
WEIGHTS, PICKLED = ".safetensors", ".bin"
TOLD = (".json", ".txt", ".md")  # configurations, vocabularies, the card
VARIANTS = ("fp16", "bf16")
SHARD = re.compile(r"-\d{5}-of-\d{5}")


class HubId(NamedTuple):
    """`owner/name`, its revision, and one file of it."""

    name: str
    revision: str | None
    file: str | None


def hub_id(source: str) -> HubId | None:
    """What `owner/name[@revision][:file]` names; None where it is something else, with a second slash before `@` and `:`."""
    found = HUB_ID.fullmatch(source)
    return HubId(*found.groups()) if found else None


def is_hub_id(source: str) -> bool:
    """Whether this could be `owner/name`, or `owner/name@revision`: one slash, nothing that marks a path."""
    return hub_id(source) is not None


def fetch_from_hub(source: str, variant: str | None = None) -> Path:
    """The folder or file that a hub repository holds, in the local cache; only what is needed is downloaded.

    The cache lies where HF_HOME or HF_HUB_CACHE say; with HF_HUB_OFFLINE=1 nothing but the cache is looked at.

    Args:
        source: `owner/name`, `owner/name@revision`, and either with `:FILE` for one of several single files.
        variant: of a pipeline's weights, "fp16"; by default the plain ones, or those that there are.

    Raises:
        CheckpointError: when there is no such repository, no connection, or nothing in the cache while offline.
        UnknownFormat: when it holds no model that is read, or several.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    told = hub_id(source)
    if told is None:
        raise CheckpointError(explain(f"{source!r}", "owner/name[@revision][:file] is a hub id"))
    try:
        names = _names(told)
        wanted = wanted_files(names, source, told.file, variant)
        folder = Path(snapshot_download(told.name, revision=told.revision, allow_patterns=wanted))
    except (OSError, ValueError, HFValidationError) as error:  # hub errors are OSErrors, the cache's a ValueError
        raise CheckpointError(_refusal(source, error)) from None
    missing = [name for name in wanted if name in names and not (folder / name).exists()]
    if missing:
        remedy = "connect once without HF_HUB_OFFLINE"
        raise CheckpointError(explain(f"{source} lies in the cache without {missing[0]}", "all of it is needed", remedy))
    single = [name for name in wanted if name.endswith((WEIGHTS, ".ckpt"))]
    return folder / single[0] if OURS not in wanted and PIPELINE not in wanted else folder


def wanted_files(names: Sequence[str], source: str, file: str | None = None, variant: str | None = None) -> list[str]:
    """Of the files of a repository those that make a model: ours, a pipeline of diffusers, or one single file.

    Raises:
        UnknownFormat: when there is none, or none of this name or variant, or several.
    """
    if file is not None:
        if file not in names:
            raise UnknownFormat(explain(f"{source} holds no file {file}", f"it holds {', '.join(_single(names)) or 'none'}"))
        return [file]
    if OURS in names:
        return [name for name in names if "/" not in name and name.endswith((WEIGHTS, *TOLD))]
    if PIPELINE in names:
        told = [name for name in names if name.count("/") <= 1 and name.endswith(TOLD) and ".index." not in name]
        return told + [name for part in PARTS for name in _weights(names, part, source, variant)]
    single = _single(names)
    if len(single) == 1:
        return single
    allowed = f"a spec.json of ours, a {PIPELINE} of diffusers or one single file is read"
    remedy = f"name one: {source}:{single[0]}" if single else "name another"
    raise UnknownFormat(explain(f"{source} holds {', '.join(single[:8]) or 'no model'}", allowed, remedy))


def _single(names: Sequence[str]) -> list[str]:
    return [name for name in names if "/" not in name and name.endswith((WEIGHTS, ".ckpt"))]


def _weights(names: Sequence[str], part: str, source: str, variant: str | None) -> list[str]:
    """The weights of one part, with the index of their shards: safetensors before pickles, plain before half ones."""
    inside = [name for name in names if PurePosixPath(name).parent == PurePosixPath(part)]
    if not any(name.endswith((WEIGHTS, PICKLED)) for name in inside):
        return []
    for ending in (WEIGHTS, PICKLED):
        for middle in [variant] if variant else [None, *VARIANTS]:
            found = [name for name in inside if _is_of(PurePosixPath(name).name, ending, middle)]
            if found:
                return found
    raise UnknownFormat(explain(f"{source} holds no {part} of variant {variant}", "its weights are of others", "leave it out"))


def _is_of(name: str, ending: str, variant: str | None) -> bool:
    """Whether a file is of weights of this ending and variant, whole, a shard, or the index of shards."""
    stem, _, rest = SHARD.sub("", name).partition(".")
    marks = [variant] if variant else []
    whole = ".".join([*marks, ending[1:]])
    index = [".".join([ending[1:], "index", *marks, "json"])]
    return stem in ("diffusion_pytorch_model", "model", "pytorch_model") and rest in (whole, *index)


def _names(told: HubId) -> list[str]:
    """The files of a repository; of what the cache holds of it when there is no connection."""
    from huggingface_hub import constants, list_repo_files, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if not constants.HF_HUB_OFFLINE:
        try:
            return list_repo_files(told.name, revision=told.revision)
        except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except OSError:
            pass  # no connection: the cache may have it
    folder = Path(snapshot_download(told.name, revision=told.revision, local_files_only=True))
    return sorted(str(PurePosixPath(*path.relative_to(folder).parts)) for path in folder.rglob("*") if path.is_file())


def _refusal(source: str, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    allowed = "no folder of that name is here, and the hub gave none"
    remedy = "check the spelling and the connection; HF_HUB_OFFLINE=1 reads the cache alone"
    if isinstance(error, GatedRepoError):
        remedy = "accept its licence on the hub, then log in: huggingface-cli login, or set HF_TOKEN"
    elif isinstance(error, LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
        remedy = "HF_HUB_OFFLINE=1 reads the cache alone: fetch it once without"
    return explain(f"no model at {source!r} ({reason})", allowed, remedy)
