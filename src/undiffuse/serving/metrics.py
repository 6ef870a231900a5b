"""What the server has done, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from collections.abc import Mapping

from undiffuse.serving.desk import Desk

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(desk: Desk) -> str:
    """One sample a line, each family with its help and type."""
    states = [live.state for live in list(desk.live.values())]
    families: list[tuple[str, str, str, Mapping[str, float]]] = [
        ("jobs_total", "counter", "Jobs that are over, by how they ended; refused ones too.", _by("state", desk.taken)),
        ("jobs", "gauge", "Jobs that are not over.", _by("state", {s: states.count(s) for s in ("queued", "running")})),
        ("network_calls_total", "counter", "Calls of the denoising network.", {"": desk.engine.calls}),
        ("network_pictures_total", "counter", "Pictures in them.", {"": desk.engine.rows}),
        ("models_loaded", "gauge", "Models that are loaded.", {"": sum(1 for n in desk.models.names if desk.models.loaded(n))}),
    ]
    lines: list[str] = []
    for name, kind, words, samples in families:
        lines += [f"# HELP undiffuse_{name} {words}", f"# TYPE undiffuse_{name} {kind}"]
        lines += [f"undiffuse_{name}{label} {value:g}" for label, value in samples.items()]
    return "\n".join([*lines, ""])


def _by(label: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f'{{{label}="{name}"}}': value for name, value in values.items()}
