"""Sixteen requests at once, each of its own kind: what does continuous batching bring against one after the other?

python benchmarks/serving.py [--model default] [--requests 16] [--batch 1 4 8 16] [--steps 10]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from PIL.Image import Image

import undiffuse
from undiffuse.serving.engine import Engine, Work

SOLVERS = ("dpmpp_2m", "Euler a", "ddim", "heun")


class Clock:
    """Hears of a job, and keeps when it had its first step and its end."""

    def __init__(self) -> None:
        self.first = self.end = 0.0
        self.error: Exception | None = None

    def started(self, request: undiffuse.Request) -> None:
        """Nothing to keep."""

    def stepped(self, picture: int, done: int, steps: int, preview: Callable[[], Image]) -> None:
        """Keep when the first step was taken."""
        self.first = self.first or time.perf_counter()

    def finished(self, picture: int, image: Image) -> None:
        """Nothing to keep."""

    def ended(self, error: Exception | None) -> None:
        """Keep when it was over."""
        self.end, self.error = time.perf_counter(), error


def requests(count: int, steps: int) -> list[undiffuse.Request]:
    """Requests that differ in prompt, steps, solver and guidance."""
    told = [
        {"solver": SOLVERS[k % len(SOLVERS)], "steps": steps + k % 3, "guidance": 3.0 + k % 4, "seed": k} for k in range(count)
    ]
    return [undiffuse.Request(f"a fox number {k}", **fields) for k, fields in enumerate(told)]


def measure(draw: undiffuse.Generator, asked: list[undiffuse.Request], batch: int) -> dict[str, Any]:
    """Seconds for all, and the median seconds to a first step and to a finished picture, all handed in at once."""
    engine = Engine(lambda name: draw, batch)
    clocks = [Clock() for _ in asked]
    start = time.perf_counter()
    for index, (request, clock) in enumerate(zip(asked, clocks, strict=True)):
        engine.submit(Work(str(index), "model", request, clock))
    while engine.turn():
        pass
    failed = [clock.error for clock in clocks if clock.error is not None]
    if failed:
        raise failed[0]
    return {
        "all": time.perf_counter() - start,
        "first": statistics.median(clock.first - start for clock in clocks),
        "end": statistics.median(clock.end - start for clock in clocks),
        "rows": engine.rows / engine.calls,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device")
    parser.add_argument("--precision")
    options = parser.parse_args()
    model = undiffuse.load_model(options.model)
    draw = undiffuse.Generator(model, device=options.device, precision=options.precision, batch=1)
    asked = requests(options.requests, options.steps)
    draw(asked[0])  # warm
    start = time.perf_counter()
    ends = []
    for request in asked:
        draw(request)
        ends.append(time.perf_counter() - start)
    alone = {"all": ends[-1], "end": statistics.median(ends)}
    print(f"{options.requests} requests of about {options.steps} steps: seconds")
    print(f"{'':28} {'all':>8} {'/ first':>8} {'picture':>8} {'first step':>10} {'at once':>8}")
    print(f"{'one after the other':28} {alone['all']:8.2f} {1:8.2f} {alone['end']:8.2f} {'':>10} {1:8.1f}", flush=True)
    for batch in options.batch:
        found = measure(draw, asked, batch)
        ratio = found["all"] / alone["all"]
        row = f"{found['all']:8.2f} {ratio:8.2f} {found['end']:8.2f} {found['first']:10.2f} {found['rows']:8.1f}"
        print(f"{f'shared calls, up to {batch}':28} {row}", flush=True)


if __name__ == "__main__":
    main()
