"""The first chapters of the page: noise, latent, steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from undiffuse.diffusion.level import Level
from undiffuse.explain import prose
from undiffuse.explain.fragments import chart, exact, facts, figure, img, number, photo, seconds, sides, strip
from undiffuse.explain.looks import channel_images
from undiffuse.explain.story import Story

BEGIN = 0.4  # of the way through the steps is where the slider stands at first
CHANNELS = 8  # of a latent that are shown
SOME = 0.01  # alpha below which there is next to nothing of a picture
NOW = (("t", "t"), ("&alpha;", "alpha"), ("&sigma;", "sigma"), ("snr", "snr"), ("network", "time"))
"""What is told of the step that the slider stands at: its name, and the class that the script finds it by."""


@dataclass(frozen=True)
class Chapter:
    """One part of the page: its anchor, its heading and its HTML."""

    anchor: str
    heading: str
    inside: str


def noise(story: Story, side: int) -> Chapter:
    """The finished picture with more and more noise."""
    figures = []
    for level, image in story.noised:
        signal, more = float(level.alpha), float(level.sigma)
        share = f"{more**2 / (signal**2 + more**2):.0%}"
        numbers = f"&alpha; {signal:.3f} &middot; &sigma; {more:.3f}<br>snr {number(float(level.snr))}"
        alt = f"The picture at t = {float(level.t):.0f}: {share} of it noise"
        figures.append(figure(img(photo(image, side), alt, size=image.size), f"<b>{share} noise</b><br>{numbers}"))
    row = strip(figures, "The finished picture with more and more noise")
    return Chapter("noise", "Noise comes in", prose.NOISE + row + prose.NOISE_NOTE)


def latent(story: Story, side: int) -> Chapter:
    """The encoder's latent beside the picture, and what it spares."""
    cost, drawn = story.cost, story.steps[-1].x0
    channels, height, width = cost.latent
    most = float(cost.encoded.abs().max())
    thumbs = [
        figure(img(exact(image), f"Channel {place} of the latent", "pixels", (width, height)), f"channel {place}")
        for place, image in enumerate(channel_images(cost.encoded[:CHANNELS], most), 1)
    ]
    said = prose.PIXELS
    if cost.fewer_numbers != 1:
        said = prose.LATENT.format(times=number(cost.fewer_numbers), psnr=number(cost.psnr))
    rows = [
        ("the picture", f"{_product(*cost.pixels[1:], cost.pixels[0])} numbers"),
        ("its latent", f"{_product(height, width, channels)} numbers"),
        ("one U-Net call on the latent", f"{seconds(cost.denoise)}, measured ({cost.parameters / 1e6:.1f} M weights)"),
    ]
    if cost.fewer_positions > 1:
        computed = prose.COMPUTED.format(seconds=seconds(cost.denoise_pixels), times=number(cost.fewer_positions))
        rows.append(("the same call on the pixels", computed))
    rows += [("encoder, once", f"{seconds(cost.encode)}, measured"), ("decoder, once", f"{seconds(cost.decode)}, measured")]
    more = f" The first {CHANNELS} of {channels} are shown." if channels > CHANNELS else ""
    key = f"<p class='note'>Blue is below zero, orange above; full colour is &plusmn;{number(most)}.{more}</p>"
    picture = img(photo(drawn, side), "The picture that the latent stands for", size=drawn.size)
    beside = figure(picture, f"{sides(cost.pixels[2], cost.pixels[1])} pixels", "beside")
    both = f'<div class="split">{beside}<div><div class="channels">{"".join(thumbs)}</div>{key}</div></div>'
    return Chapter("latent", "A smaller place to work in", said + both + facts(rows))


def steps(story: Story, side: int) -> Chapter:
    """Every step under a slider: what it began with, what it took for clean, and its level."""
    levels = [story.trace.level(step) for step in range(len(story.trace))]
    lines = [
        ("&alpha;, what is picture", [float(one.alpha) for one in levels]),
        ("&sigma;, what is noise", [float(one.sigma) for one in levels]),
    ]
    place = round(BEGIN * (len(story.steps) - 1))
    shown = story.steps[place]
    size = shown.xt.size
    said = prose.STEPS.format(start=_start(story, levels[0]), looks=prose.LOOKS[story.looks])
    if len(story.steps) < len(levels):
        said += f"<p class='note'>{len(story.steps)} of {len(levels)} steps are shown.</p>"
    viewer = f"""
<div class="viewer" id="stepper">
<div class="pair">
{figure(img(photo(shown.xt, side), "What the step began with", "xt", size), "x<sub>t</sub>: what the step began with")}
{figure(img(photo(shown.x0, side), "What the network takes for clean", "x0", size), "x<sub>0</sub>: what it takes for clean")}
</div>
<div class="controls"><button type="button" class="play">Play</button>
<label for="step">Step <output for="step" class="which">{shown.index + 1}</output></label>
<input type="range" id="step" min="0" max="{len(story.steps) - 1}" value="{place}"></div>
<dl class="now">{"".join(f'<div><dt>{name}</dt><dd class="{key}"></dd></div>' for name, key in NOW)}</dl>
{chart(lines, "Picture comes in, noise goes out, step by step", f"step {len(levels)}", mark=True)}
</div>"""
    return Chapter("steps", "Noise goes out, step by step", said + viewer)


def _start(story: Story, level: Level) -> str:
    """What the drawing began with, in words."""
    if level.alpha < SOME:
        return prose.FROM_NOISE
    if story.request.sketch is not None:
        return prose.FROM_SKETCH if story.request.mask is None else prose.FROM_AROUND
    return prose.FROM_NOISE if story.request.image is None else prose.FROM_PICTURE


def _product(*counts: int) -> str:
    return f"{' &times; '.join(map(str, counts))} = {math.prod(counts):,}"
