"""All chapters of the page in the order in which one would tell them to a friend, and what stands above them."""

from __future__ import annotations

from collections.abc import Callable

from undiffuse.explain import making, saying
from undiffuse.explain.contrasts import said_in
from undiffuse.explain.fragments import exact, facts, img, number, photo, seconds, sides, text
from undiffuse.explain.making import Chapter
from undiffuse.explain.story import Story

ORDER: tuple[Callable[[Story, int], Chapter | None], ...] = (
    making.noise,
    making.latent,
    making.steps,
    saying.guidance,
    saying.words,
    saying.dropped,
    saying.instead,
    saying.entrances,
)


LARGEST = 2**20  # pixels of a finished picture that is small enough for that


def chapters(story: Story, side: int) -> list[Chapter]:
    """All that there is to tell, in order; pictures are no longer than `side`."""
    return [chapter for one in ORDER if (chapter := one(story, side)) is not None]


def is_whole(story: Story) -> bool:
    """Whether the finished picture is on the page to the last bit, with its request inside."""
    return story.picture.width * story.picture.height <= LARGEST


def opening(story: Story, side: int) -> str:
    """The finished picture, and what was asked for."""
    request, origin, said = story.request, story.trace.told["origin"], said_in(story.request)
    worn = ", ".join(text(one["name"]) for one in origin.get("additions", ()))
    rows = {
        "asked for": f"<q>{text(said)}</q>",
        "steered away from": f"<q>{text(request.negative)}</q>" if request.negative else "",
        "seed": text(request.seed),
        "steps": f"{len(story.trace)} of solver {text(request.solver)}",
        "guidance": number(request.guidance),
        "size": sides(*story.picture.size),
        "model": f"{text(origin['model'])}, fingerprint <code>{text(origin['model_hash'])}</code>",
        "with": worn,
        "drawn on": f"{text(story.machine)}, in {seconds(story.seconds)}",
    }
    link = exact(story.picture) if is_whole(story) else photo(story.picture, side, 92)
    picture = img(link, f"The finished picture: {said}", size=story.picture.size)
    return f'<div class="hero"><div>{picture}</div>{facts((name, value) for name, value in rows.items() if value)}</div>'
