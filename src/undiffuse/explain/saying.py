"""The chapters about what was said: guidance, words, something else from the same noise, the ways in."""

from __future__ import annotations

from PIL import Image

from undiffuse.explain import prose
from undiffuse.explain.contrasts import said_in
from undiffuse.explain.entering import Entrance
from undiffuse.explain.fragments import chart, exact, figure, img, number, photo, sides, strip, text
from undiffuse.explain.lighting import is_sign
from undiffuse.explain.looks import channel_images, heat_image, lit
from undiffuse.explain.making import CHANNELS, Chapter
from undiffuse.explain.story import Contrast, Story, lit_steps

THUMB = 128  # longest side of a word's picture
SMALL = 224  # longest side of pictures in rows
TINY = 64  # a picture below that is shown pixel by pixel


def guidance(story: Story, side: int) -> Chapter | None:
    """The same noise told nothing, told, and pushed; None where nothing was said that guidance could follow."""
    if story.silent is None:
        return None
    ours, size = story.picture, story.picture.size
    figures = [_contrast(story.silent, "Told nothing", side)]
    told, which, caption = story.silent, "What being told changed", "Told, and followed as it is"
    if story.plain is not None:
        figures.append(_contrast(story.plain, f"{caption} (guidance 1)", side))
        told, which, caption = story.plain, "What the push changed", f"Pushed with guidance {number(story.request.guidance)}"
    figures.append(figure(img(photo(ours, side), f"Our picture: {said_in(story.request)}", size=size), f"<b>{caption}</b>"))
    numbers = f"{number(told.by)} of 255 on average, pale yellow is {number(float(told.apart.max()))}"
    figures.append(figure(img(photo(heat_image(told.apart), side), which, size=size), f"<b>{which}</b><br>{numbers}"))
    pushed = [float(row["difference"] or 0) for row in story.trace.numbers()]
    drawn = ""
    if any(pushed):
        drawn = chart(
            [("root mean square of (with &minus; without)", pushed)], "The size of the difference", f"step {len(pushed)}"
        )
        strongest = max(range(len(pushed)), key=pushed.__getitem__) + 1
        drawn += f"<p class='note'>What was said made the most difference in step {strongest} of {len(pushed)}.</p>"
    return Chapter("guidance", "What guidance adds", prose.GUIDANCE + f'<div class="grid">{"".join(figures)}</div>' + drawn)


def words(story: Story, side: int) -> Chapter | None:
    """The picture lit by each word; None where no word was attended to."""
    if not story.lightings:
        return None
    every = story.lightings[0].shares.mean(0)  # (W, r, c)
    base = story.steps[-1].x0
    said = story.trace.words
    first = max(range(len(said)), key=lambda place: (not is_sign(said[place].text), float(every[place].mean())))
    buttons = ""
    for place, word in enumerate(said):
        kind = "word sign" if is_sign(word.text) else "word"
        begin = " data-first" if place == first else ""
        thumb = img(photo(lit(base, every[place]), THUMB, 80), "", size=(THUMB, THUMB * base.height // base.width))
        inside = f"{thumb}<span>{text(word.text)}</span><small>{every[place].mean():.1%}</small>"
        buttons += f'<button type="button" class="{kind}" aria-pressed="false"{begin}>{inside}</button>'
    options = "".join(
        f'<option value="{place}">{text(one.name)}{f" ({one.layers} layers)" if place and one.layers > 1 else ""}</option>'
        for place, one in enumerate(story.lightings)
    )
    viewer = f"""
<div class="viewer" id="lamp">
<div class="words" role="group" aria-label="What was said, word by word">{buttons}</div>
<div class="stage">
<canvas width="{base.width}" height="{base.height}" role="img" aria-label="The picture, lit by one word"></canvas>
<div><p class="told" aria-live="polite"></p>
<label>Layers <select>{options}</select></label>
<label>Step <output></output><input type="range" min="0" max="{len(lit_steps(story))}" value="0"></label></div></div>
{prose.WORDS_NOTE.format(rest=f"{1 - float(every.sum(0).mean()):.0%}")}
</div>"""
    return Chapter("words", "Which word lit which pixels", prose.WORDS.format(layers=story.lightings[0].layers) + viewer)


def dropped(story: Story, side: int) -> Chapter | None:
    """Drawings with a word less; None where none were made."""
    if not story.dropped:
        return None
    most = max(one.by for _, one in story.dropped) or 1.0
    figures = []
    for word, one in story.dropped:
        bar = f'<span class="bar"><i style="width:{one.by / most:.1%}"></i></span>'
        picture = img(photo(one.picture, min(side, SMALL)), f"Drawn as: {one.said}", size=one.picture.size)
        figures.append(figure(picture, f"without <b>{text(word)}</b><br>{number(one.by)} of 255{bar}"))
    return Chapter("dropped", "What each word did", prose.DROPPED + f'<div class="grid small">{"".join(figures)}</div>')


def instead(story: Story, side: int) -> Chapter | None:
    """The same noise told something else; None where nothing else could be said."""
    other = story.instead
    if other is None:
        return None

    def row(said: str, images: list[Image.Image], label: str) -> str:
        figures = [
            figure(img(photo(image, min(side, SMALL)), f"{label}, step {step + 1}", size=image.size), f"step {step + 1}")
            for step, image in zip(other.steps, images, strict=True)
        ]
        return f"<h3><q>{text(said)}</q></h3>" + strip(figures, label)

    apart = drawn = ""
    if other.distances:
        apart = prose.APART.format(first=f"{other.distances[0]:.0%}", last=f"{other.distances[-1]:.0%}")
        lines = [("distance of the two estimates, by the size of ours", other.distances)]
        drawn = chart(lines, "How far the two estimates are apart, step by step", f"step {len(other.distances)}")
    both = row(said_in(story.request), other.ours, "Our estimate") + row(
        other.contrast.said, other.theirs, "The other estimate"
    )
    return Chapter("instead", "The same noise, told something else", prose.INSTEAD.format(apart=apart) + both + drawn)


def entrances(story: Story, side: int) -> Chapter | None:
    """Every context of the model and its way into the U-Net; None where it learned none."""
    if not story.entrances:
        return None
    heads = "".join(f"<th>{head}</th>" for head in ("what", "way in", "in numbers", "in this picture"))
    rows = "".join(_row(one) for one in story.entrances)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    scrolled = f'<div class="scroll" tabindex="0" role="group" aria-label="Contexts of this model">{table}</div>'
    spatial = "".join(_beside(story, one, side) for one in story.entrances if one.said)
    instead = {word: meant for one in story.entrances for word, meant in one.instead.items()}
    read = "; ".join(f"<q>{text(word)}</q> as <q>{text(meant)}</q>" for word, meant in instead.items())
    others = prose.OTHERS.format(read=read) if instead else ""
    return Chapter("entrances", "How what you say gets in", prose.ENTRANCES + scrolled + others + spatial)


def _row(one: Entrance) -> str:
    slots = {"tokens": one.tokens, "vector": one.vector, "channels": one.spatial}
    ways = ", ".join(name for name, slot in slots.items() if slot is not None)
    numbers = ", ".join(" &times; ".join(map(str, slot.shape)) for slot in slots.values() if slot is not None)
    kind, said = text(prose.KINDS.get(one.kind, one.kind)), "said" if one.said else "not said"
    return f"<tr><th>{kind}</th><td>{ways}</td><td>{numbers}</td><td>{said}</td></tr>"


def _beside(story: Story, one: Entrance, side: int) -> str:
    """Pictures that a part was shown, and the channels that it laid beside the latent; nothing where it laid none."""
    if one.spatial is None:
        return ""
    given = ""
    for name, image in one.given.items():
        look = "pixels" if max(image.size) < TINY else ""
        given += figure(img(photo(image, min(side, 256)), f"Given: {name}", look, image.size), text(name))
    if one.sketch is not None:
        picture = img(photo(one.sketch, min(side, 256)), "The sketch of the words, decoded", size=one.sketch.size)
        given += figure(picture, "the sketch, decoded")
    for share, image in one.recalled:
        picture = img(photo(image, min(side, 256)), f"Called to mind with {share:.0%}", size=image.size)
        given += figure(picture, f"called to mind: {share:.0%}")
    height, width = one.spatial.shape[1:]
    thumbs = "".join(
        figure(img(exact(image), f"Channel {place}", "pixels", (width, height)), f"channel {place}")
        for place, image in enumerate(channel_images(one.spatial[:CHANNELS]), 1)
    )
    weight = ""
    if one.weight is not None and story.latent_weight:
        weight = prose.WEIGHT.format(times=number(one.weight / story.latent_weight))
    kind = text(prose.KINDS.get(one.kind, one.kind)).capitalize()
    if len(one.spatial) > CHANNELS:
        weight += f" The first {CHANNELS} are shown."
    said = prose.BESIDE.format(what=kind, channels=len(one.spatial), size=sides(width, height), weight=weight)
    said += prose.RECOGNISED if one.recognised else prose.SKETCH if one.sketch is not None else ""
    said += prose.RECALLED if one.recalled else ""
    said += prose.AGREEING if one.agreeing else ""
    return f'<h3>{kind}</h3>{said}<div class="grid small">{given}</div><div class="channels">{thumbs}</div>'


def _contrast(one: Contrast, heading: str, side: int) -> str:
    caption = f"<b>{heading}</b><br>{number(one.by)} of 255 from ours"
    return figure(img(photo(one.picture, side), f"{heading}: {one.said}", size=one.picture.size), caption)
