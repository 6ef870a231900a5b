"""A server under a crowd: is a job lost or wrong, does memory stay flat, how soon is the first step of one who comes late?

python benchmarks/soak.py [--clients 32] [--seconds 120] [--jobs 200] [--switches 10] [--device cpu]

The embedded model. Every picture that comes back is compared with the same request drawn alone. Needs the extras `serve`
and `dev`; memory is read from /proc.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

import undiffuse
from undiffuse.checkpoints.api import default_folder

COMMAND = str(Path(sys.executable).with_name("undiffuse"))
SOLVERS = ("DPM++ 2M", "Euler a", "DDIM", "Heun")
THINGS = ("a fox", "a sailboat, flat", "red apple, blob", "a cat on a blue background")
LONG = 50
MOMENTS = 8


@contextmanager
def server(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """A server of its own process: its address and the number of the process."""
    words = [COMMAND, "serve", "--port", "0", "--out", str(folder / "served"), "--queue", "200", *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://[\d.]+:\d+", line)
        if found:
            break
    else:
        raise SystemExit("the server did not start")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    try:
        yield found.group(), process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def asked(index: int) -> dict[str, Any]:
    """The request of this number: sixteen kinds, each with its prompt, solver, steps and guidance."""
    kind = index % 16
    told = {"prompt": THINGS[kind % 4], "sampler_name": SOLVERS[kind // 4], "steps": 4 + kind % 3}
    return {**told, "seed": kind, "cfg_scale": 3.0 + kind % 4, "scheduler": "Uniform"}


def draw(client: httpx.Client, told: dict[str, Any]) -> tuple[np.ndarray | None, int]:
    """The picture of a request, tried again as often as the server says that it is full; and how often it was."""
    full = 0
    while True:
        answer = client.post("/sdapi/v1/txt2img", json=told)
        if answer.status_code != 429:
            break
        full += 1
        time.sleep(float(answer.headers["Retry-After"]))
    if answer.status_code != 200:
        return None, full
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0])))).astype(int), full


def crowd(clients: int, seconds: float, options: list[str], folder: Path) -> None:
    """Many clients, each asking for one picture after the other."""
    with server(folder, *options) as (address, _):
        with httpx.Client(base_url=address, timeout=None) as alone:
            expected = [draw(alone, asked(kind))[0] for kind in range(16)]
        counts: Counter[str] = Counter()
        until = time.monotonic() + seconds
        taken: list[float] = []

        def one(client: int) -> None:
            with httpx.Client(base_url=address, timeout=None) as http:
                for index in range(client, 10**9, clients):
                    start = time.monotonic()
                    if start > until:
                        return
                    try:
                        picture, full = draw(http, asked(index))
                    except httpx.HTTPError:
                        picture, full = None, 0
                    wanted = expected[index % 16]
                    wrong = picture is not None and wanted is not None and np.abs(picture - wanted).max() > 1
                    counts["lost" if picture is None else "wrong" if wrong else "right"] += 1
                    counts["told to wait"] += full
                    taken.append(time.monotonic() - start)

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(one, range(clients)))
        told = ", ".join(f"{counts[name]} {name}" for name in ("right", "wrong", "lost", "told to wait"))
        print(f"{clients} clients for {seconds:.0f} s: {told}; median {statistics.median(taken):.1f} s a picture", flush=True)


def held(process: int) -> float:
    """MiB that a process holds."""
    told = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+)", told)[0]) / 1024


def flat(jobs: int, switches: int, options: list[str], folder: Path) -> None:
    """Memory of the server as jobs and changes of the model go by, one model held at a time."""
    models = folder / "models"
    models.mkdir()
    for name in ("a", "b"):
        (models / name).symlink_to(default_folder())
    with (
        server(folder, "--models", str(models), "--memory", "0.001", *options) as (address, process),
        httpx.Client(base_url=address, timeout=None) as http,
    ):
        readings = []
        for index in range(jobs):
            model = ("a", "b")[index * (switches + 1) // jobs % 2]
            picture, _ = draw(http, {**asked(index), "override_settings": {"sd_model_checkpoint": model}})
            if picture is None:
                raise SystemExit(f"job {index} failed")
            readings.append(held(process))
        after = jobs // (switches + 1) * 2  # both models were there
        first, last = statistics.median(readings[after : after + 10]), statistics.median(readings[-10:])
        told = f"{first:.0f} MiB after {after} jobs, {last:.0f} MiB at the end ({last / first - 1:+.1%})"
        print(f"{jobs} jobs with {switches} changes of the model: {told}", flush=True)


def late(options: list[str], folder: Path, side: int = 128) -> None:
    """How long one waits for a first step who comes when a long job is under way, in steps of that job alone.

    Who comes right after a step has begun waits longest; `MOMENTS` are spread evenly over a step.
    """
    with server(folder, *options) as (address, _), httpx.Client(base_url=address, timeout=None) as http:
        waits, size = [], {"width": side, "height": side}
        for turn in range(1 + MOMENTS):
            long = http.post("/api/jobs", json={"prompt": "a fox", "steps": LONG, "seed": turn, **size}).json()["id"]
            arrivals: list[float] = []
            began, asked_at, first = threading.Event(), 0.0, 0.0

            def follow(long: str = long, arrivals: list[float] = arrivals, began: threading.Event = began) -> None:
                for name, _ in events(http, long):
                    arrivals.append(time.monotonic())
                    if name == "step" and len(arrivals) == 12:
                        began.set()

            follower = threading.Thread(target=follow)
            follower.start()
            began.wait()
            step = statistics.median(b - a for a, b in pairwise(arrivals[2:]))
            time.sleep(max(0, turn - 1) / MOMENTS * step)
            asked_at = time.monotonic()
            short = http.post("/api/jobs", json={"prompt": "a cat", "steps": 4, "seed": 1, **size}).json()["id"]
            for name, _ in events(http, short):
                if name == "step" and not first:
                    first = time.monotonic()
            follower.join()
            if turn:  # the first one warms up
                waits.append((first - asked_at) / step)
        told = f"after {statistics.mean(waits):.1f} of its steps, the longest after {max(waits):.1f}"
        print(f"{side}x{side}: first step of a job that comes beside one of {LONG} steps: {told}", flush=True)


def events(http: httpx.Client, job: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a job, as they come."""
    with http.stream("GET", f"/api/jobs/{job}/events") as answer:
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                yield name, json.loads(line[5:])


def main() -> None:
    """Print what was found, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--switches", type=int, default=10)
    parser.add_argument("--device")
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    told = ["--batch", str(options.batch), *(["--device", options.device] if options.device else [])]
    print(f"undiffuse {undiffuse.__version__}")
    for number, measure in enumerate(
        (
            lambda folder: late(told, folder),
            lambda folder: late(told, folder, 256),
            lambda folder: crowd(options.clients, options.seconds, told, folder),
            lambda folder: flat(options.jobs, options.switches, told, folder),
        )
    ):
        with tempfile.TemporaryDirectory(prefix=f"soak{number}") as name:
            measure(Path(name))


if __name__ == "__main__":
    main()
