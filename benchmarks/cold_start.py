"""From an empty shell to `--help`, to an import, to a PNG: how long, against Python and torch alone?

python benchmarks/cold_start.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("undiffuse"))
PROMPT = "a fox, 3d render, on a blue background"


def seconds(words: list[str], repeats: int) -> float:
    """Median wall-clock seconds of a command, after one run that warms the disk cache."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as out:
        rows = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import torch": [sys.executable, "-c", "import torch"],
            "import undiffuse": [sys.executable, "-c", "import undiffuse"],
            "undiffuse --help": [COMMAND, "--help"],
            "undiffuse generate --help": [COMMAND, "generate", "--help"],
            "undiffuse generate": [COMMAND, "generate", PROMPT, "--seed", "7", "--out", out],
        }
        taken = {name: seconds(words, repeats) for name, words in rows.items()}
    print(f"{'':30} {'seconds':>8} {'/ import torch':>15}")
    for name, value in taken.items():
        print(f"{name:30} {value:8.3f} {value / taken['import torch']:15.2f}")


if __name__ == "__main__":
    main()
