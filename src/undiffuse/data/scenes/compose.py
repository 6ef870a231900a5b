"""A planned scene as a picture, its exact semantic map, and the box of what is seen of each thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from undiffuse.data.annotations import Box
from undiffuse.data.scenes.backdrop import paint_backdrop
from undiffuse.data.scenes.classes import MAP_CLASSES
from undiffuse.data.scenes.grounds import GROUNDS, SKIES, WALLS
from undiffuse.data.scenes.plan import Scene, Thing
from undiffuse.data.scenes.things import Things

SHADOW = 0.34
NOTHING = -1


@dataclass(frozen=True)
class Composed:
    """A picture (RGB), its class indices (L), and a box for every thing of the scene, in its order."""

    picture: Image.Image
    indices: Image.Image
    boxes: list[Box]


def compose(scene: Scene, things: Things, size: int, rng: np.random.Generator) -> Composed:
    """Paint ground and sky, then the things from far to near; a pixel belongs to the last thing that covers half of it."""
    sky = (WALLS if scene.indoors else SKIES)[scene.sky]
    backdrop = paint_backdrop(GROUNDS[scene.ground], sky, scene.horizon, size, rng)
    levels, indices = backdrop.levels, backdrop.indices
    owners = np.full((size, size), NOTHING, np.int8)
    for thing in scene.things:
        if not thing.flies:
            _shade(levels, thing, 0.5 * SHADOW if scene.ground == "water" else SHADOW)
    for number, thing in enumerate(scene.things):
        art = things.art(thing.kind.index)
        if art is None:
            continue
        left, top, right, bottom = (round(side * size) for side in thing.box)
        small = np.asarray(art.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.LANCZOS))
        window = (slice(top, top + small.shape[0]), slice(left, left + small.shape[1]))
        alpha = small[..., 3:].astype(np.float32) / 255
        levels[window] += alpha * (small[..., :3] - levels[window])
        covered = alpha[..., 0] > 0.5
        indices[window][covered] = MAP_CLASSES.index(thing.kind.map_class)
        owners[window][covered] = number
    boxes = [_box(owners == number, thing) for number, thing in enumerate(scene.things)]
    picture = Image.fromarray((levels + 0.5).clip(0, 255).astype(np.uint8))
    return Composed(picture, Image.fromarray(indices), [box for box in boxes if box])


def _shade(levels: np.ndarray, thing: Thing, strength: float) -> None:
    """A soft dark ellipse where the thing stands."""
    size = len(levels)
    left, _, right, bottom = thing.box
    wide = (right - left) * 0.5
    high = max(wide * 0.16, 1.5 / size)
    across = (((np.arange(size) + 0.5) / size - thing.middle) / wide)[None]
    down = (((np.arange(size) + 0.5) / size - bottom + high * 0.35) / high)[:, None]
    levels *= 1 - strength * (1 - across**2 - down**2).clip(0, 1)[..., None].astype(np.float32)


def _box(seen: np.ndarray, thing: Thing) -> Box:
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return []
    size = len(seen)
    sides = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return [*(round(float(side) / size, 5) for side in sides), thing.concept]
