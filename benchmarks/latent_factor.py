"""The paper's central experiment, small: at which factor f should diffusion work? Quality against training and sampling time.

python benchmarks/latent_factor.py [--data data/emoji] [--out docs/latent-factor]
    [--factors 1 2 4 8 16] [--codec-minutes 2.5] [--minutes 6] [--segments 3] [--pictures 250]

For every factor: an autoencoder trained for a fixed time (none at f = 1), then a U-Net of about the same size trained for a
fixed time on its latents, without words. After each segment of that time the averaged weights draw, and the drawings are
compared with real pictures by KID (see evaluation/fidelity.py). Times are of training alone, and of the processor: seconds of
all threads together over their number, so that other work on the machine does not count; with a GPU they are those of the
clock. Writes table.md, quality.svg and measured.json into the folder of --out; a run that is stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import undiffuse
from undiffuse.core.pictures import to_pixels
from undiffuse.data.dataset import open_dataset
from undiffuse.evaluation.features import Lite0, batches_on_white, load_extractor
from undiffuse.evaluation.fidelity import Discrepancy
from undiffuse.training.recipe import Recipe
from undiffuse.training.run import resume, train
from undiffuse.training.state import checkpoints

SIZE = 64
CHANNELS = {1: 3, 2: 2, 4: 3, 8: 4, 16: 8}  # of the latents, as in the paper's table 8
WIDTHS = {1: [32, 64, 64], 2: [32, 64, 64], 4: [32, 64, 64], 8: [48, 80], 16: [48, 80]}  # about 1.5 M parameters each
CODECS: dict[int, dict[str, Any]] = {  # widths of the autoencoders, and the pixels that they fold before the first convolution
    2: {"widths": [64], "patch": 2},
    4: {"widths": [96], "patch": 4},
    8: {"widths": [96, 128], "patch": 4},
    16: {"widths": [96, 128, 160], "patch": 4},
}
PIXELS = "pixels"  # the codec of f = 1: none
PROBE = 12  # steps that tell how many fit into a segment
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")


def common(data: str, name: str, steps: int, batch: int) -> dict[str, Any]:
    """What both stages share: cut-outs on white, whole and centred, so that real pictures and drawings are alike."""
    render = {"size": SIZE, "plain": 1.0, "pair": 0.0, "backgrounds": {"white": 1.0}}
    run = {"steps": steps, "batch": batch, "save_every": 10**6, "preview_every": 0, "log_every": 10}
    optimizer = {"rate": 1e-3, "decay": "none", "ema": 0.995, "warmup": 50}
    return {"name": name, "data": {"path": data, "render": render}, "run": run, "optimizer": optimizer}


def codec_recipe(data: str, factor: int, steps: int) -> Recipe:
    """Stage one at this factor."""
    net = {"latent_channels": CHANNELS[factor], "blocks": 2, "mid_attention": False, "shortcut": True} | CODECS[factor]
    raw = common(data, f"f{factor}", steps, 16) | {"objective": {"kind": "autoencoder", "crop": SIZE, "kl": 1e-4}}
    return Recipe.parse(raw | {"autoencoder": net})


def unet_recipe(data: str, factor: int, codec: str, steps: int) -> Recipe:
    """Stage two at this factor; attention where the latent is 16 on a side or less, as far as there is such a level."""
    widths = WIDTHS[factor]
    sides = [SIZE // factor // 2**level for level in range(len(widths))]
    net = {"widths": widths, "blocks": 1, "depths": [int(side <= 16) for side in sides], "head_width": 16}
    objective = {"kind": "diffusion", "codec": codec, "variants": 1, "importance": 0.5}
    return Recipe.parse(common(data, f"f{factor}", steps, 16) | {"objective": objective, "denoiser": net})


def timed(recipe: Recipe, folder: Path, seconds: float) -> tuple[int, float]:
    """Train for about this long on top of what was done; the steps taken in all, and the seconds of this segment."""
    done = _steps_done(folder)
    clock = _Clock()
    goal = recipe.run.model_copy(update={"steps": done + PROBE})
    _go(recipe.model_copy(update={"run": goal}), folder, clock)
    rate = clock.seconds / (PROBE - 1)
    more = max(1, round(seconds / rate) - PROBE)
    goal = recipe.run.model_copy(update={"steps": done + PROBE + more})
    _go(recipe.model_copy(update={"run": goal}), folder, clock)
    return done + PROBE + more, clock.seconds


def seconds_computed() -> float:
    """Seconds that the processor has worked for this process, a thread; those of the clock where a GPU does the work."""
    return time.monotonic() if torch.cuda.is_available() else time.process_time() / torch.get_num_threads()


class _Clock:
    """Seconds between the first and the last step of runs, without what comes before and after."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.before: float | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        now = seconds_computed()
        if what == "training" and self.before is not None:
            self.seconds += now - self.before
        self.before = now if what == "training" and done < total else None


def _go(recipe: Recipe, folder: Path, clock: _Clock) -> None:
    if _steps_done(folder):
        resume(folder, progress=clock, recipe=recipe)
    else:
        train(recipe, folder, progress=clock)


def _steps_done(folder: Path) -> int:
    return max((int(path.stem.removeprefix("step-")) for path in checkpoints(folder / "checkpoints")), default=0)


def real_features(data: str, count: int, extractor: Lite0) -> Tensor:
    """Features (N, D) of validation pictures and as many of the training ones as are missing to `count`."""
    pictures = open_dataset(data, "all")
    order = sorted(range(len(pictures)), key=lambda index: pictures.rows[index].split != "val")[:count]
    return torch.cat([extractor(pixels).double() for _, pixels in batches_on_white(pictures, order, SIZE, 32)])


def drawn(model: str, count: int) -> tuple[Tensor, float]:
    """Pictures (N, 3, H, W) drawn without words in 20 steps, and the seconds a picture took."""
    draw = undiffuse.Generator(undiffuse.load_model(model), batch=16, tell=None)
    start = seconds_computed()
    result = draw(undiffuse.Request(steps=20, seed=0, guidance=1.0, count=count))
    return torch.stack([to_pixels(image) for image in result.images]), (seconds_computed() - start) / count


def measure(options: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """One row a factor and segment; rows that were measured before are kept."""
    kept = out / "measured.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else []
    extractor = load_extractor()
    real = real_features(options.data, options.pictures, extractor)
    for factor in options.factors:
        folder = Path(options.runs) / f"f{factor}"
        codec = _codec(options, factor, folder)
        for segment in range(
            1 + max((row["segment"] for row in rows if row["factor"] == factor), default=-1), options.segments
        ):
            recipe = unet_recipe(options.data, factor, codec, 1)
            steps, seconds = timed(recipe, folder / "unet", 60 * options.minutes / options.segments)
            before = sum(row["seconds"] for row in rows if row["factor"] == factor)
            pixels, each = drawn(str(folder / "unet"), options.pictures)
            features = torch.cat([extractor(part).double() for part in pixels.split(32)])
            row = {"factor": factor, "segment": segment, "steps": steps, "seconds": seconds, "trained": before + seconds,
                   "kid": Discrepancy(features, real).value(), "seconds_a_picture": each}  # fmt: skip
            rows.append(row)
            kept.write_text(json.dumps(rows, indent=1))
            print(row, flush=True)
    return rows


def _codec(options: argparse.Namespace, factor: int, folder: Path) -> str:
    if factor == 1:
        return PIXELS
    if not (folder / "codec/model").exists():
        timed(codec_recipe(options.data, factor, 1), folder / "codec", 60 * options.codec_minutes)
    return str(folder / "codec")


def table(rows: list[dict[str, Any]]) -> str:
    """The last segment of every factor, and how soon each was as good as pixels ended; drawings are measured after segments."""
    ends = {factor: [row for row in rows if row["factor"] == factor] for factor in sorted({row["factor"] for row in rows})}
    goal = ends[min(ends)][-1]["kid"]
    lines = [f"| f | steps | minutes | KID | minutes to KID {goal:.2f} | s a picture |", "|---|---|---|---|---|---|"]
    for factor, part in ends.items():
        last, reached = part[-1], [row["trained"] / 60 for row in part if row["kid"] <= goal]
        soon = "never" if not reached else f"{'at most ' if reached[0] == part[0]['trained'] / 60 else ''}{reached[0]:.1f}"
        figures = [str(last["steps"]), f"{last['trained'] / 60:.1f}", f"{last['kid']:.1f}", soon]
        lines.append(f"| {factor} | {' | '.join(figures)} | {last['seconds_a_picture']:.3f} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]]) -> str:
    """KID against minutes of training as an SVG, a line a factor."""
    width, height, left, bottom = 640, 400, 60, 50
    most_x, most_y = max(row["trained"] for row in rows) / 60, max(row["kid"] for row in rows) * 1.05

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / most_x * (width - left - 90), height - bottom - y / most_y * (height - bottom - 20)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{width}" height="{height}" fill="white"/>']  # fmt: skip
    for share in range(6):
        (x, base), (_, y) = place(most_x * share / 5, 0), place(0, most_y * share / 5)
        parts.append(f'<line x1="{left}" x2="{width - 90}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{most_y * share / 5:.0f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{base + 18:.1f}" text-anchor="middle">{most_x * share / 5:.1f}</text>')
    for colour, factor in zip(COLOURS, sorted({row["factor"] for row in rows}), strict=False):
        points = [place(row["trained"] / 60, row["kid"]) for row in rows if row["factor"] == factor]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{points[-1][0] + 8:.1f}" y="{points[-1][1] + 4:.1f}" fill="{colour}">f = {factor}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">minutes of training</text>')
    parts.append(f'<text x="16" y="{height / 2}" transform="rotate(-90 16 {height / 2})" text-anchor="middle">KID</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    """Measure what is missing, then write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/emoji")
    parser.add_argument("--out", default="docs/latent-factor")
    parser.add_argument("--runs", default="runs/latent-factor")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8, 16], choices=list(CHANNELS))
    parser.add_argument("--codec-minutes", type=float, default=2.5)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=250)
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = measure(options, out)
    (out / "table.md").write_text(table(rows))
    (out / "quality.svg").write_text(plot(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
