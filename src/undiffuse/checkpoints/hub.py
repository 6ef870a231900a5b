"""Model folders on the Hugging Face hub, through huggingface_hub and its cache."""

from __future__ import annotations

import re
from pathlib import Path

from undiffuse.core.errors import CheckpointError, explain

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
FILES = ("spec.json", "*.safetensors", "tokenizer.json", "README.md")


def is_hub_id(source: str) -> bool:
    """Whether this could be `owner/name`, or `owner/name@revision`: one slash, nothing that marks a path."""
    return HUB_ID.fullmatch(source) is not None


def fetch_from_hub(source: str) -> Path:
    """The folder of a hub repository in the local cache, downloaded when it is not there yet.

    The cache lies where HF_HOME or HF_HUB_CACHE say; with HF_HUB_OFFLINE=1 nothing but the cache is looked at.

    Args:
        source: `owner/name`, or `owner/name@revision`.

    Raises:
        CheckpointError: when there is no such repository, no connection, or nothing in the cache while offline.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    name, _, revision = source.partition("@")
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=list(FILES)))
    except (OSError, ValueError, HFValidationError) as error:  # hub errors are OSErrors, the cache's a ValueError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        allowed = "no folder of that name is here, and the hub gave none"
        remedy = "check the spelling and the connection; HF_HUB_OFFLINE=1 reads the cache alone"
        raise CheckpointError(explain(f"no model at {source!r} ({reason})", allowed, remedy)) from None
