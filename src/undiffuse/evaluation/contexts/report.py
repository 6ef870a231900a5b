"""`ContextsReport`: the figures of all contexts that a model learned, and why others were left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from undiffuse.evaluation.report import Figure, Report


@dataclass(frozen=True)
class ContextsReport(Report):
    """The figures of every context that was measured, one after the other.

    `reports` by context; no two have a figure of the same name. `left_out` tells why others were not measured.
    """

    reports: Mapping[str, Report]
    left_out: Mapping[str, str]

    def figures(self) -> dict[str, Figure]:
        """The figures of all contexts by name, in order."""
        return {name: figure for report in self.reports.values() for name, figure in report.figures().items()}
