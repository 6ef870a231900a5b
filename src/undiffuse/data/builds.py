"""What the builds of data sets share: claiming a folder, and saying what lies in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undiffuse.core.errors import DataError, explain
from undiffuse.data.atomic import write_text
from undiffuse.data.layouts.found import json_object


def claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Mark `out` as the folder of a build with these settings.

    Raises:
        DataError: a build with other settings lies there.
    """
    marker = out / "dataset.json"
    if not marker.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_text(marker, json.dumps({**settings, "complete": False}, indent=2))
        return
    found = json_object(marker.read_text(encoding="utf-8", errors="replace")) or {}
    other = [name for name, value in settings.items() if found.get(name) != value]
    if other:
        raise DataError(
            explain(
                f"{out} holds a data set with another {', '.join(other)}",
                f"this build wants {', '.join(f'{name} = {settings[name]}' for name in other)}",
                "choose another folder, or delete that one",
            )
        )


def counted(what: str, counts: Mapping[str, int]) -> str:
    """One line of a report: "by style: flat 3, noto 5"."""
    return f"by {what}: {', '.join(f'{name} {count}' for name, count in counts.items())}" if counts else ""
