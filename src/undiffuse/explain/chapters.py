"""The chapters of the page, from what was measured to HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from undiffuse.explain.contrasts import said_in
from undiffuse.explain.entering import Entrance
from undiffuse.explain.fragments import chart, exact, facts, figure, img, number, photo, seconds, strip, text
from undiffuse.explain.lighting import is_sign
from undiffuse.explain.looks import channel_images, heat_image, lit
from undiffuse.explain.story import Contrast, Story

BEGIN = 0.4  # of the way through the steps is where the slider stands at first
CHANNELS = 8  # of a latent or a map that are shown
LOOKS = {
    "decoder": "",
    "preview": " Steps are shown by the model's quick decoder for previews.",
    "linear": " The decoder is slow here: steps are shown by a map from latent channels to colours, fitted to this picture.",
}
KINDS = {
    "text": "words",
    "clip": "words",
    "label": "a class",
    "mask": "a masked picture",
    "map": "a semantic map",
    "small": "a small picture",
    "boxes": "boxes",
    "lookalike": "a picture to resemble",
    "size": "sizes",
}


@dataclass(frozen=True)
class Chapter:
    """One part of the page: its anchor, its heading and its HTML."""

    anchor: str
    heading: str
    inside: str


def chapters(story: Story, side: int) -> list[Chapter]:
    """All that there is to tell, in order; pictures are no longer than `side`."""
    told: list[Callable[[Story, int], Chapter | None]] = [
        _noise, _latent, _steps, _guidance, _words, _dropped, _instead, _entrances,
    ]  # fmt: skip
    return [chapter for one in told if (chapter := one(story, side)) is not None]


def opening(story: Story, side: int) -> str:
    """The finished picture, and what was asked for."""
    request, origin = story.request, story.trace.told["origin"]
    worn = origin.get("additions", ())
    rows = [("asked for", f"<q>{text(_said(story))}</q>")]
    rows += [("steered away from", f"<q>{text(request.negative)}</q>")] if request.negative else []
    rows += [
        ("seed", text(request.seed)),
        ("steps", f"{len(story.trace)} of solver {text(request.solver)}"),
        ("guidance", number(request.guidance)),
        ("size", _sides(story.picture.width, story.picture.height)),
        ("model", f"{text(origin['model'])}, fingerprint <code>{text(origin['model_hash'])}</code>"),
        *([("with", ", ".join(text(one["name"]) for one in worn))] if worn else []),
        ("drawn on", f"{text(story.machine)}, in {seconds(story.seconds)}"),
    ]
    link = exact(story.picture) if max(story.picture.size) <= side else photo(story.picture, side, 92)
    picture = img(link, f"The finished picture: {_said(story)}", "finished", story.picture.size)
    return f'<div class="hero"><div>{picture}</div>{facts(rows)}</div>'


def _noise(story: Story, side: int) -> Chapter:
    figures = []
    for level, image in story.noised:
        signal, noise = float(level.alpha), float(level.sigma)
        snr = float(level.snr)
        caption = f"<b>{_share(signal**2, noise**2)} noise</b><br>&alpha; {signal:.3f} &middot; &sigma; {noise:.3f}<br>snr {number(snr)}"
        alt = f"The picture at t = {float(level.t):.0f}: {_share(signal**2, noise**2)} of it noise"
        figures.append(figure(img(photo(image, side), alt, size=image.size), caption))
    said = (
        "<p>Take a picture and add a little noise; then more, until nothing of the picture is left. That is easy, and needs no "
        "network:</p><p class='formula'>x<sub>t</sub> = &alpha; &middot; x<sub>0</sub> + &sigma; &middot; noise</p><p>A diffusion model learns the way back: "
        "shown any of these, it says what the clean picture was.</p><p>Below is the finished picture with the very noise that its drawing began with. "
        "Drawing goes from right to left.</p>"
    )
    note = "<p class='note'>The share of noise is &sigma;&sup2; / (&alpha;&sup2; + &sigma;&sup2;), snr is &alpha;&sup2; / &sigma;&sup2;.</p>"
    return Chapter("noise", "Noise comes in", said + strip(figures, "The finished picture with more and more noise") + note)


def _latent(story: Story, side: int) -> Chapter:
    cost = story.cost
    channels, height, width = cost.latent
    most = float(cost.encoded.abs().max())
    shown = channel_images(cost.encoded[:CHANNELS], most)
    thumbs = [
        figure(img(exact(image), f"Channel {place} of the latent", "pixels", (width, height)), f"channel {place}")
        for place, image in enumerate(shown, 1)
    ]
    more = f" The first {CHANNELS} of {channels} are shown." if channels > CHANNELS else ""
    if cost.fewer_numbers == 1:
        said = "<p>This model works on the pixels themselves: its latent is the picture.</p>"
    else:
        said = (
            f"<p>Pixels are many, and most of them say what their neighbours say. An encoder packs the picture into a latent of "
            f"<b>{number(cost.fewer_numbers)} times fewer numbers</b>, and all that follows happens there. A decoder unpacks the "
            f"result. The way there and back keeps this picture to {number(cost.psnr)} dB (PSNR; at 40 few eyes see a difference).</p>"
        )
    rows = [
        ("the picture", f"{_product(*cost.pixels[1:], cost.pixels[0])} numbers"),
        ("its latent", f"{_product(height, width, channels)} numbers"),
        ("one U-Net call on the latent", f"{seconds(cost.denoise)}, measured ({cost.parameters / 1e6:.1f} M weights)"),
    ]
    if cost.fewer_positions > 1:
        rows.append(
            (
                "the same call on the pixels",
                f"about {seconds(cost.denoise_pixels)}, <em>computed</em>: {number(cost.fewer_positions)} times as many positions, "
                "as many times the work of every convolution; attention would cost more still",
            )
        )
    rows += [("encoder, once", f"{seconds(cost.encode)}, measured"), ("decoder, once", f"{seconds(cost.decode)}, measured")]
    key = f"<p class='note'>Blue is below zero, orange above; full colour is &plusmn;{number(most)}.{more}</p>"
    beside = figure(
        img(photo(story.steps[-1].x0, side), "The picture that the latent stands for", size=story.steps[-1].x0.size),
        f"{_sides(cost.pixels[2], cost.pixels[1])} pixels",
        "beside",
    )
    inside = (
        f'{said}<div class="split">{beside}<div><div class="channels">{"".join(thumbs)}</div>{key}</div></div>{facts(rows)}'
    )
    return Chapter("latent", "A smaller place to work in", inside)


def _steps(story: Story, side: int) -> Chapter:
    levels = [story.trace.level(step) for step in range(len(story.trace))]
    lines = [
        ("&alpha;, what is picture", [float(one.alpha) for one in levels]),
        ("&sigma;, what is noise", [float(one.sigma) for one in levels]),
    ]
    place = round(BEGIN * (len(story.steps) - 1))
    shown = story.steps[place]
    size = shown.xt.size
    kept = "" if len(story.steps) == len(story.trace) else f" {len(story.steps)} of {len(story.trace)} steps are shown."
    said = (
        "<p>The drawing starts with noise alone. At every step the network looks at what there is and says what it takes for the "
        "clean picture: at first a blur of all that would fit, then ever more sure. The solver goes a little way towards it, "
        f"down to the next level of noise, and asks again.{kept}{LOOKS[story.looks]}</p>"
    )
    viewer = f"""
<div class="viewer" id="steps">
<div class="pair">
{figure(img(photo(shown.xt, side), "What the step began with", "xt", size), "x<sub>t</sub>: what the step began with")}
{figure(img(photo(shown.x0, side), "What the network takes for clean", "x0", size), "x<sub>0</sub>: what it takes for clean")}
</div>
<div class="controls"><button type="button" class="play">Play</button>
<label for="step">Step <output for="step" class="which">{shown.index + 1}</output></label>
<input type="range" id="step" min="0" max="{len(story.steps) - 1}" value="{place}"></div>
<dl class="now">{"".join(f'<div><dt>{name}</dt><dd class="{key}"></dd></div>' for name, key in NOW)}</dl>
{chart(lines, "Signal falls in, noise falls off, step by step", f"step {len(levels)}", mark=True)}
</div>"""
    return Chapter("steps", "Noise goes out, step by step", said + viewer)


NOW = (("t", "t"), ("&alpha;", "alpha"), ("&sigma;", "sigma"), ("snr", "snr"), ("network", "time"))


def _guidance(story: Story, side: int) -> Chapter | None:
    if story.silent is None:
        return None
    numbers = story.trace.numbers()
    pushed = [float(row["difference"] or 0) for row in numbers]
    figures = [_contrast(story.silent, "Told nothing", side)]
    told = story.plain or story.silent
    if story.plain is not None:
        figures.append(_contrast(story.plain, "Told, and followed as it is (guidance 1)", side))
    ours = f"<b>Pushed with guidance {number(story.request.guidance)}</b>" if story.plain else "<b>Told, and followed</b>"
    figures.append(figure(img(photo(story.picture, side), f"Our picture: {_said(story)}", size=story.picture.size), ours))
    most = float(told.apart.max())
    which = "What the push changed" if story.plain else "What being told changed"
    heat = img(photo(heat_image(told.apart), side), which, size=story.picture.size)
    figures.append(figure(heat, f"<b>{which}</b><br>{number(told.by)} of 255 on average, pale yellow is {number(most)}"))
    said = (
        "<p>The same noise, told nothing, becomes something too: whatever this model finds likely. Told what to draw, it leans "
        "that way, often too little. So at every step the network is asked twice, with what was said and without, and the "
        "answer is pushed along the difference:</p><p class='formula'>x<sub>0</sub> = without + guidance &middot; (with &minus; without)</p>"
    )
    drawn = ""
    if any(pushed):
        strongest = max(range(len(pushed)), key=pushed.__getitem__)
        drawn = chart(
            [("root mean square of (with &minus; without)", pushed)],
            "What was said, in size, step by step",
            f"step {len(pushed)}",
        )
        drawn += f"<p class='note'>What was said made the most difference in step {strongest + 1} of {len(pushed)}.</p>"
    return Chapter("guidance", "What guidance adds", said + f'<div class="grid">{"".join(figures)}</div>' + drawn)


def _words(story: Story, side: int) -> Chapter | None:
    if not story.lightings:
        return None
    every = story.lightings[0].shares.mean(0)  # (W, r, c)
    base = story.steps[-1].x0
    words = story.trace.words
    first = max(range(len(words)), key=lambda place: (not is_sign(words[place].text), float(every[place].mean())))
    buttons = "".join(
        f'<button type="button" class="word{" sign" if is_sign(word.text) else ""}" {" data-first" if place == first else ""} aria-pressed="false">'
        f"{img(photo(lit(base, every[place]), 128, 80), '', size=(128, 128 * base.height // base.width))}"
        f"<span>{text(word.text)}</span><small>{every[place].mean():.1%}</small></button>"
        for place, word in enumerate(words)
    )
    rest = 1 - float(every.sum(0).mean())
    options = "".join(
        f'<option value="{place}">{text(one.name)}{f" ({one.layers} layers)" if place and one.layers > 1 else ""}</option>'
        for place, one in enumerate(story.lightings)
    )
    said = (
        "<p>Words reach the U-Net by cross-attention: in each of "
        f"{story.lightings[0].layers} layers, every place of the picture shares its attention out among the words. Here a word "
        "lights the picture where it was looked at; brightest is where most. Point at a word, or tap it.</p>"
    )
    viewer = f"""
<div class="viewer" id="light">
<div class="words" role="group" aria-label="Words of the prompt">{buttons}</div>
<div class="stage"><canvas width="{base.width}" height="{base.height}" role="img" aria-label="The picture, lit by one word"></canvas>
<div><p class="told" aria-live="polite"></p>
<label>Layers <select>{options}</select></label>
<label>Step <output></output><input type="range" min="0" max="{len(story.steps)}" value="0"></label></div></div>
<p class="note">Percentages are shares of all attention, mean over heads, layers, steps and places. {rest:.0%} of it lies on no
word but on the marks around the prompt{" and what fills the rest of its length" if rest > 0.2 else ""}.</p>
</div>"""
    return Chapter("words", "Which word lit which pixels", said + viewer)


def _dropped(story: Story, side: int) -> Chapter | None:
    if not story.dropped:
        return None
    most = max(one.by for _, one in story.dropped) or 1.0
    figures = [
        figure(
            img(photo(one.picture, min(side, 192)), f"Drawn as: {one.said}", size=one.picture.size),
            f"without <b>{text(word)}</b><br>{number(one.by)} of 255"
            f'<span class="bar"><i style="width:{one.by / most:.1%}"></i></span>',
        )
        for word, one in story.dropped
    ]
    said = (
        "<p>Attention says where the network looked, not what it made of it. A plainer question: leave a word out, keep the noise, "
        "and draw again. What the picture loses is what the word did. Sorted by how far the pixels move on average.</p>"
    )
    return Chapter("dropped", "What each word did", said + f'<div class="grid small">{"".join(figures)}</div>')


def _instead(story: Story, side: int) -> Chapter | None:
    if story.instead is None:
        return None
    other = story.instead
    mine, yours = text(_said(story)), text(other.contrast.said)

    def row(words: str, images: list, last: str) -> str:
        figures = [
            figure(img(photo(image, min(side, 224)), f"{last}, step {step + 1}", size=image.size), f"step {step + 1}")
            for step, image in zip(other.steps, images, strict=True)
        ]
        return f"<h3><q>{words}</q></h3>" + strip(figures, last)

    ends = (other.distances[0], other.distances[-1]) if other.distances else None
    apart = f" In step 1 the two are {ends[0]:.0%} of their size apart, in the last {ends[1]:.0%}." if ends else ""
    said = (
        "<p>Noise is no seed of a certain picture. The same noise, told something else, becomes something else. "
        f"Below, what the network takes for clean on both ways.{apart}</p>"
    )
    drawn = ""
    if other.distances:
        drawn = chart(
            [("distance of the two estimates, by the size of ours", other.distances)],
            "How far the two estimates are apart, step by step",
            f"step {len(other.distances)}",
        )
    both = row(mine, other.ours, "Our estimate") + row(yours, other.theirs, "The other estimate")
    return Chapter("instead", "The same noise, told something else", said + both + drawn)


def _entrances(story: Story, side: int) -> Chapter | None:
    if not story.entrances:
        return None
    rows = "".join(_entrance_row(one) for one in story.entrances)
    table = (
        '<div class="scroll" tabindex="0" role="group" aria-label="Contexts of this model"><table><thead><tr><th>what</th><th>way in'
        f"</th><th>in numbers</th><th>in this picture</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    said = (
        "<p>Whatever steers a drawing enters the U-Net by one of three ways, or several: as <b>tokens</b> that places attend to, "
        "as a <b>vector</b> added to what it is told of the noise level, or as <b>channels</b> laid beside the latent, place by "
        "place. This model learned:</p>"
    )
    spatial = "".join(_beside(story, one, side) for one in story.entrances if one.spatial is not None and one.said)
    return Chapter("entrances", "How what you say gets in", said + table + spatial)


def _entrance_row(one: Entrance) -> str:
    ways, numbers = [], []
    for name, slot in (("tokens", one.tokens), ("vector", one.vector), ("channels", one.spatial)):
        if slot is not None:
            ways.append(name)
            numbers.append(" &times; ".join(map(str, slot.shape)))
    said = "said" if one.said else "not said"
    return f"<tr><th>{text(KINDS.get(one.kind, one.kind))}</th><td>{', '.join(ways)}</td><td>{', '.join(numbers)}</td><td>{said}</td></tr>"


def _beside(story: Story, one: Entrance, side: int) -> str:
    """Pictures that a part was shown, and the channels that it laid beside the latent."""
    if one.spatial is None:
        return ""
    given = [
        figure(
            img(photo(image, min(side, 256)), f"Given: {name}", "pixels" if max(image.size) < 64 else "", image.size),
            text(name),
        )
        for name, image in one.given.items()
    ]
    shown = channel_images(one.spatial[:CHANNELS])
    height, width = one.spatial.shape[1:]
    thumbs = [
        figure(img(exact(image), f"Channel {place}", "pixels", (width, height)), f"channel {place}")
        for place, image in enumerate(shown, 1)
    ]
    weight = ""
    if one.weight is not None and story.latent_weight:
        ratio = one.weight / story.latent_weight
        weight = f" The first convolution weighs a channel of it {number(ratio)} times as much as one of the latent (root mean square)."
    kind = text(KINDS.get(one.kind, one.kind))
    said = f"<p>{kind.capitalize()} became {len(one.spatial)} channels of {_sides(width, height)}.{weight}</p>"
    return f'<h3>{kind.capitalize()}</h3>{said}<div class="grid small">{"".join(given)}</div><div class="channels">{"".join(thumbs)}</div>'


def _contrast(one: Contrast, heading: str, side: int) -> str:
    caption = f"<b>{heading}</b><br>{number(one.by)} of 255 from ours"
    return figure(img(photo(one.picture, side), f"{heading}: {one.said}", size=one.picture.size), caption)


def _said(story: Story) -> str:
    return said_in(story.request)


def _share(signal: float, noise: float) -> str:
    return f"{noise / (signal + noise):.0%}"


def _sides(width: int, height: int) -> str:
    return f"{width} &times; {height}"


def _product(*sides: int) -> str:
    count = 1
    for one in sides:
        count *= one
    return f"{' &times; '.join(map(str, sides))} = {count:,}"
