"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str | None, typer.Option(help="Model folder or training run; the embedded model when left out.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str | None, typer.Option(help="auto, fp32, bf16, fp16.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for machines.")]
Out = Annotated[Path, typer.Option(help="Folder to write into.")]
