"""One picture of the embedded model, warm: what do precision, guidance and batch size cost?

python benchmarks/drawing.py [--model default] [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import time

import undiffuse

PROMPT = "a fox, 3d render, on a blue background"


def seconds_a_picture(draw: undiffuse.Generator, request: undiffuse.Request, repeats: int) -> float:
    """Median seconds a picture, after one drawing that warms up."""
    draw(request)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        draw(request)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) / request.count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    request = undiffuse.Request(PROMPT, steps=20, seed=7)
    cases = {
        "fp32, guided": ("fp32", request),
        "chosen precision, guided": (None, request),
        "chosen precision, unguided": (None, request.replace(guidance=1.0)),
        "chosen precision, guided, 8 at once": (None, request.replace(count=8)),
    }
    taken: dict[str, float] = {}
    print(f"{'20 steps':40} {'s a picture':>12} {'/ first':>8}")
    for name, (precision, asked) in cases.items():
        draw = undiffuse.Generator(undiffuse.load_model(options.model), precision=precision, batch=8)
        taken[name] = seconds_a_picture(draw, asked, options.repeats)
        print(f"{name:40} {taken[name]:12.3f} {taken[name] / next(iter(taken.values())):8.2f}", flush=True)
    print(repr(draw))


if __name__ == "__main__":
    main()
