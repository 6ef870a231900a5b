"""Does a model do what its contexts say? Every context that it learned, measured on validation pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from undiffuse.conditioners.base import ConditionerPart
from undiffuse.conditioners.boxes import BoxesConditioner
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.maps import MapConditioner
from undiffuse.conditioners.masked import MaskConditioner
from undiffuse.conditioners.small import SmallConditioner
from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.evaluation.contexts.bench import Bench, LeftOut, Measured, Triple
from undiffuse.evaluation.contexts.boxes import measure_boxes
from undiffuse.evaluation.contexts.labels import measure_labels
from undiffuse.evaluation.contexts.maps import measure_maps
from undiffuse.evaluation.contexts.masked import measure_masks
from undiffuse.evaluation.contexts.report import ContextsReport
from undiffuse.evaluation.contexts.small import measure_small
from undiffuse.evaluation.report import Report


class Measurement(NamedTuple):
    """Whether a part reads a context, and what measures how well the model follows it."""

    reads: Callable[[ConditionerPart], bool]
    measure: Callable[[Any, Bench], Measured | LeftOut]


CONTEXTS = {
    "mask": Measurement(lambda part: isinstance(part, MaskConditioner), measure_masks),
    "map": Measurement(lambda part: isinstance(part, MapConditioner), measure_maps),
    "small": Measurement(lambda part: isinstance(part, SmallConditioner), measure_small),
    "label": Measurement(lambda part: "label" in part.fields, measure_labels),
    "boxes": Measurement(lambda part: isinstance(part, BoxesConditioner), measure_boxes),
}
NOT_LEARNED = "the model has not learned it"


def evaluate_contexts(conditioner: Conditioner, bench: Bench) -> tuple[ContextsReport, Mapping[str, list[Triple]]]:
    """Measure every context that a model learned and the data set can ask for.

    Args:
        conditioner: the model's.
        bench: its drawing, and the pictures.

    Returns:
        The figures, and by context the first few pictures that they were measured on.

    Raises:
        SpecError: when the model learned none of these contexts.
        DataError: when the data set can ask for none that it learned, or a picture cannot be read and nobody is told.
        DependencyError: when something is missing that one of the measurements needs.
    """
    reports: dict[str, Report] = {}
    shown: dict[str, list[Triple]] = {}
    left_out: dict[str, str] = {}
    for name, (reads, measure) in CONTEXTS.items():
        part = next((part for part in conditioner.parts if reads(part)), None)
        found = LeftOut(NOT_LEARNED) if part is None else measure(part, bench)
        if isinstance(found, LeftOut):
            left_out[name] = found.reason
        else:
            reports[name], shown[name] = found.report, found.shown
    if all(reason == NOT_LEARNED for reason in left_out.values()) and not reports:
        reads = ", ".join(conditioner.fields) or "nothing"
        raise SpecError(explain(f"this model reads {reads}", f"one that learned any of {', '.join(CONTEXTS)} is needed"))
    if not reports:
        given = "; ".join(f"{name}: {reason}" for name, reason in left_out.items() if reason != NOT_LEARNED)
        raise DataError(explain(given, "nothing was measured", "name a data set that says what the model reads"))
    return ContextsReport(reports, left_out), shown
