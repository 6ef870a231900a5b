"""Draw how runs learned, a panel each, as SVG: loss by pictures seen, in means over forty parts of a run.

python recipes/emoji/curves.py runs/emoji-sketch runs/emoji-sketched > docs/embedded-model/curves.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

WIDTH, HEIGHT, EDGE = 420, 240, 46
POINTS = 40


def points(run: Path) -> Iterator[tuple[float, float]]:
    """Thousands of pictures seen, and the mean loss up to there since the point before."""
    batch = json.loads((run / "recipe.json").read_text())["run"]["batch"]
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    loss = next(name for name in lines[0] if name.endswith("/loss"))
    size = max(1, len(lines) // POINTS)
    for first in range(0, len(lines) - size + 1, size):
        some = lines[first : first + size]
        yield some[-1]["step"] * batch / 1000, sum(line[loss] for line in some) / size


def panel(run: Path, left: int) -> str:
    """One run: its name, its curve, and the ends of both axes."""
    curve = list(points(run))
    most, low, high = curve[-1][0], min(y for _, y in curve), max(y for _, y in curve)
    wide, tall = WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE
    places = [(left + EDGE + wide * x / most, EDGE + tall * (high - y) / (high - low)) for x, y in curve]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    bottom = HEIGHT - EDGE
    return (
        f'<text x="{left + WIDTH / 2}" y="24" text-anchor="middle" font-weight="bold">{run.name}</text>'
        f'<path d="M{left + EDGE},{EDGE}V{bottom}H{left + WIDTH - EDGE}" fill="none" stroke="#888"/>'
        f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="2"/>'
        f'<text x="{left + EDGE - 6}" y="{EDGE + 5}" text-anchor="end">{high:.3f}</text>'
        f'<text x="{left + EDGE - 6}" y="{bottom}" text-anchor="end">{low:.3f}</text>'
        f'<text x="{left + WIDTH - EDGE}" y="{bottom + 18}" text-anchor="end">{most:,.0f} thousand pictures</text>'
    )


def main() -> None:
    """Print the panels of the runs that the command line names."""
    runs = [Path(name) for name in sys.argv[1:]]
    if not runs:
        sys.exit("usage: python recipes/emoji/curves.py RUN...")
    size = f"{WIDTH * len(runs)} {HEIGHT}"
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="12">')
    print('<rect width="100%" height="100%" fill="white"/>')
    for place, run in enumerate(runs):
        print(panel(run, WIDTH * place))
    print("</svg>")


if __name__ == "__main__":
    main()
