from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from undiffuse.core.errors import Cancelled, DataError, UsageError
from undiffuse.core.random import numpy_stream
from undiffuse.data.dataset import Dataset, open_dataset
from undiffuse.data.scenes import build as building
from undiffuse.data.scenes.backdrop import paint_backdrop
from undiffuse.data.scenes.build import build_scenes
from undiffuse.data.scenes.classes import HEIGHTS, MAP_CLASSES, class_of
from undiffuse.data.scenes.compose import compose
from undiffuse.data.scenes.grounds import GROUND_WEIGHTS, GROUNDS, SKIES, SKY_WEIGHTS, WALLS
from undiffuse.data.scenes.plan import Scene, Thing, plan_scene
from undiffuse.data.scenes.things import Things
from undiffuse.data.scenes.words import caption, relation, relations
from undiffuse.data.wording import plural

CONCEPTS = {
    "fox": "animal-mammal",
    "duck": "animal-bird",
    "eagle": "animal-bird",
    "person": "person",
    "neutral face": "face-neutral-skeptical",
    "palm tree": "plant-other",
    "pizza": "food-prepared",
    "bus": "transport-ground",
    "ship": "transport-water",
    "house": "place-building",
    "guitar": "musical-instrument",
}
HELD_OUT = {("fox", "flat"), ("ship", "noto"), ("pizza", "noto")}
COLOURS = {concept: (20 * number, 255 - 20 * number, 10 + 20 * number) for number, concept in enumerate(CONCEPTS)}


@pytest.fixture
def emoji(tmp_path: Path) -> Path:
    """Eleven concepts in two styles as discs of their own colours, a few pairs held out, and a square without transparency."""
    folder = tmp_path / "emoji"
    folder.mkdir()
    rows = []
    for concept, subgroup in CONCEPTS.items():
        for style in ("flat", "noto"):
            name = f"{concept.replace(' ', '-')}-{style}.png"
            cutout = Image.new("RGBA", (32, 32))
            ImageDraw.Draw(cutout).ellipse((4, 2, 27, 29), fill=(*COLOURS[concept], 255))
            cutout.save(folder / name)
            split = "val" if (concept, style) in HELD_OUT else "train"
            told = {"concept": concept, "style": style, "subgroup": subgroup, "split": split}
            rows.append({"file": name, "caption": f"{concept}, {style}", **told})
    Image.new("RGBA", (32, 32), (9, 9, 9, 255)).save(folder / "tv.png")
    rows.append({"file": "tv.png", "caption": "television", "concept": "television", "style": "flat", "split": "train"})
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "LICENSES.md").write_text("# Licences and attribution\n\nBy the Drawers of Things.\n")
    return folder


@pytest.fixture
def things(emoji: Path) -> Things:
    return Things(open_dataset(emoji))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def thing(things: Things, concept: str, box: tuple[float, float, float, float], flies: bool = False) -> Thing:
    kinds = [kind for name in HEIGHTS for kind in things.of("flat", name)]
    return Thing(next(kind for kind in kinds if kind.concept == concept), box, flies)


def test_a_build_opens_with_maps_boxes_and_words(emoji: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = build_scenes(tmp_path / "s", emoji, 30, 32, progress=lambda done, total, what: seen.append((done, total)))
    dataset = open_dataset(tmp_path / "s")
    assert len(dataset) == report.count == 30 and dataset.problems == []
    assert dataset.map_classes == list(MAP_CLASSES) and len(MAP_CLASSES) <= 16
    assert seen[0] == (0, 30) and seen[-1] == (30, 30)
    for index, row in enumerate(dataset.rows):
        picture, indices = dataset.read(index), dataset.read_map(index)
        assert indices is not None and picture.mode == "RGB" and picture.size == indices.size == (32, 32)
        assert len(row.fields["boxes"]) == len(row.fields["concepts"]) >= 1
        assert {box[4] for box in row.fields["boxes"]} == set(row.fields["concepts"])
        assert row.fields["style"] in ("flat", "noto") and row.fields["ground"] in GROUNDS
        assert "television" not in row.caption and row.caption
    licences = (tmp_path / "s" / "LICENSES.md").read_text()
    assert "By the Drawers of Things." in licences and licences.count("# Licences and attribution") == 1
    assert json.loads(json.dumps(report.to_dict()))["count"] == 30
    assert report.lines()[0].endswith("30 scenes with maps of 16 classes")


def test_the_map_is_exact(things: Things) -> None:
    checked: set[str] = set()
    for number in range(20):
        rng = numpy_stream("exact", number)
        scene = plan_scene(things, "train", rng)
        composed = compose(scene, things, 64, rng)
        levels, indices = np.asarray(composed.picture).astype(int), np.asarray(composed.indices)
        named = [one.concept for one in scene.things]
        for one, box in zip(scene.things, composed.boxes, strict=True):
            if named.count(one.concept) > 1:
                continue
            checked.add(one.concept)
            like = np.abs(levels - COLOURS[one.concept]).sum(-1) == 0
            mine = indices == MAP_CLASSES.index(one.kind.map_class)
            assert like.any() and (mine[like]).all()
            left, top, right, bottom = (round(side * 64) for side in box[:4])
            rows, columns = np.nonzero(like)
            assert left <= columns.min() and columns.max() < right and top <= rows.min() and rows.max() < bottom
    assert len(checked) > 5


def test_held_out_pairs_are_in_validation_scenes_only(things: Things) -> None:
    shown = {"train": set(), "val": set()}
    for split, pairs in shown.items():
        for number in range(150):
            scene = plan_scene(things, split, numpy_stream("held", split, number))
            pairs |= {(one.concept, scene.style) for one in scene.things}
    assert not shown["train"] & HELD_OUT
    assert HELD_OUT <= shown["val"] and shown["val"] - HELD_OUT


def test_things_are_where_they_belong(things: Things) -> None:
    grounds = set()
    for number in range(150):
        scene = plan_scene(things, "train", numpy_stream("belong", number))
        grounds.add(scene.ground)
        concepts = {one.concept for one in scene.things}
        assert all(0 <= side <= 1 for one in scene.things for side in one.box)
        if scene.ground == "water":
            assert concepts <= {"duck", "ship", "eagle"}
        else:
            assert "ship" not in concepts
        for one in scene.things:
            assert one.flies == (one.concept == "eagle" and not scene.indoors)
            assert one.flies or one.box[3] > scene.horizon
        standing = [one.box[3] for one in scene.things if not one.flies]
        assert standing == sorted(standing)  # from far to near
    assert grounds == set(GROUNDS)


def test_nearer_things_are_larger(things: Things) -> None:
    heights: dict[bool, list[float]] = {True: [], False: []}
    for number in range(200):
        scene = plan_scene(things, "train", numpy_stream("near", number))
        for one in scene.things:
            if not one.flies and len(scene.things) == 2:
                heights[(one.box[3] - scene.horizon) / (1 - scene.horizon) > 0.55].append(one.box[3] - one.box[1])
    assert np.mean(heights[True]) > 1.15 * np.mean(heights[False])


def test_scenes_are_the_same_whatever_the_count(emoji: Path, tmp_path: Path) -> None:
    build_scenes(tmp_path / "few", emoji, count=3, size=32)
    build_scenes(tmp_path / "more", emoji, count=5, size=32)
    build_scenes(tmp_path / "other", emoji, count=3, size=32, seed=1)
    few, more, other = (open_dataset(tmp_path / name) for name in ("few", "more", "other"))
    assert [row.caption for row in few.rows] == [row.caption for row in more.rows[:3]]
    assert all(np.array_equal(np.asarray(few.read(i)), np.asarray(more.read(i))) for i in range(3))
    assert [row.caption for row in few.rows] != [row.caption for row in other.rows]


def test_a_stopped_build_goes_on_and_gives_the_same_bytes(emoji: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "PER_SHARD", 4)
    monkeypatch.setattr(building, "TOLD_EVERY", 1)
    told: list[int] = []

    def stop(done: int, total: int, what: str) -> None:
        if done == 6:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        build_scenes(tmp_path / "a", emoji, count=10, size=32, progress=stop)
    with pytest.raises(DataError, match="run the same build again"):
        open_dataset(tmp_path / "a")
    build_scenes(tmp_path / "a", emoji, count=10, size=32, progress=lambda done, total, what: told.append(done))
    assert min(told) == 4
    build_scenes(tmp_path / "b", emoji, count=10, size=32)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    with pytest.raises(DataError, match="another count"):
        build_scenes(tmp_path / "a", emoji, count=11, size=32)


def test_what_is_missing_or_wrong_is_said(emoji: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none holds no emoji data set.*undiffuse data build emoji --out"):
        build_scenes(tmp_path / "s", tmp_path / "none")
    for wrong in ({"size": 8}, {"count": 0}):
        with pytest.raises(UsageError):
            build_scenes(tmp_path / "s", emoji, **wrong)
    (emoji / "captions.jsonl").write_text('{"file": "tv.png", "caption": "a square"}')
    with pytest.raises(DataError, match="holds no things to put into scenes"):
        build_scenes(tmp_path / "s", emoji)


def test_relations_are_what_is_seen(things: Things) -> None:
    tree = thing(things, "palm tree", (0.1, 0.5, 0.3, 0.8))
    bus = thing(things, "bus", (0.6, 0.5, 0.9, 0.8))
    near = thing(things, "house", (0.2, 0.6, 0.45, 0.95))
    eagle = thing(things, "eagle", (0.1, 0.1, 0.3, 0.3), flies=True)
    assert relation(tree, bus) == "left of" and relation(bus, tree) == ""
    assert relation(near, tree) == "in front of" and relation(tree, near) == ""
    assert relation(eagle, tree) == "above" and relation(tree, eagle) == ""
    assert relations((eagle, tree, bus)) == [
        ["eagle", "above", "palm tree"],
        ["eagle", "above", "bus"],
        ["palm tree", "left of", "bus"],
    ]
    assert relations((tree, tree, bus)) == []


def test_only_what_has_a_plural_is_shown_many_times(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undiffuse.data.scenes.plan.GROUP_SHARE", 1.0)
    monkeypatch.setattr("undiffuse.data.scenes.plan.with_article", lambda name: name if name == "bus" else f"a {name}")
    most: dict[str, int] = {}
    for number in range(120):
        concepts = [one.concept for one in plan_scene(things, "train", numpy_stream("many", number)).things]
        most |= {concept: max(concepts.count(concept), most.get(concept, 0)) for concept in concepts}
    assert most["bus"] == 1 and max(most.values()) == 4


def test_captions_tell_style_things_and_place(things: Things) -> None:
    tree, bus = thing(things, "palm tree", (0.1, 0.5, 0.3, 0.8)), thing(things, "bus", (0.6, 0.5, 0.9, 0.8))
    scene = Scene("flat", "sand", "night", 0.5, (tree, bus))
    said = {caption(scene, numpy_stream("words", number)) for number in range(200)}
    assert len(said) > 60
    assert all("a palm tree" in words and "a bus" in words for words in said)
    assert not any("bus to the left" in words or "palm tree to the right" in words for words in said)
    assert any("a palm tree to the left of a bus on" in words and words.endswith(", flat") for words in said)
    many = Scene("flat", "grass", "blue", 0.5, (tree, tree, tree, bus))
    assert all("three palm trees and a bus" in caption(many, numpy_stream("many", number)) for number in range(20))


def test_four_things_are_all_told(things: Things) -> None:
    for number in range(120):
        scene = plan_scene(things, "train", numpy_stream("told", number))
        words = caption(scene, numpy_stream("told words", number))
        assert all(one.concept in words or plural(one.concept) in words for one in scene.things)


@pytest.mark.parametrize("ground", list(GROUNDS))
def test_backdrops_have_ground_below_and_sky_above(ground: str) -> None:
    sky = WALLS["pink"] if ground == "floor" else SKIES["sunset"]
    backdrop = paint_backdrop(GROUNDS[ground], sky, 0.5, 64, numpy_stream("backdrop", ground))
    assert backdrop.levels.shape == (64, 64, 3) and 0 <= backdrop.levels.min() and backdrop.levels.max() <= 255
    assert (backdrop.indices[:16] == MAP_CLASSES.index(sky.map_class)).all()
    assert (backdrop.indices[48:] == MAP_CLASSES.index(GROUNDS[ground].map_class)).all()
    above, below = backdrop.levels[2:12].mean((0, 1)), backdrop.levels[48:].mean((0, 1))
    assert np.abs(above - below).max() > 20


def test_nights_are_dark() -> None:
    day, night = (
        paint_backdrop(GROUNDS["grass"], SKIES[sky], 0.5, 32, numpy_stream("night")).levels.mean()
        for sky in ("cloudy", "night")
    )
    assert night < 0.6 * day


def test_tables_name_one_another() -> None:
    assert set(GROUND_WEIGHTS) == set(GROUNDS) and set(SKY_WEIGHTS) == set(SKIES)
    for ground in GROUNDS.values():
        assert ground.map_class in MAP_CLASSES and ground.hill_class in MAP_CLASSES and set(ground.stands) <= set(HEIGHTS)
    assert set(HEIGHTS) < set(MAP_CLASSES) and len(set(MAP_CLASSES)) == len(MAP_CLASSES)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"concept": "fox", "subgroup": "animal-mammal"}, "animal"),
        ({"concept": "guitar", "subgroup": "musical-instrument"}, "object"),
        ({"concept": "christmas tree", "subgroup": "event"}, "plant"),
        ({"concept": "paw prints", "subgroup": "animal-mammal"}, ""),
        ({"concept": "person walking facing right", "subgroup": "person-activity"}, ""),
        ({"concept": "red circle", "subgroup": "geometric"}, ""),
        ({}, ""),
    ],
)
def test_classes_of_concepts(fields: dict[str, str], name: str) -> None:
    assert class_of(fields) == name


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("fox", "foxes"),
        ("bus", "buses"),
        ("strawberry", "strawberries"),
        ("turkey", "turkeys"),
        ("woman with red hair", "women with red hair"),
        ("person in tuxedo", "people in tuxedo"),
        ("polar bear", "polar bears"),
        ("fish", "fish"),
        ("glasses", "glasses"),
        ("two-hump camel", "two-hump camels"),
        ("french fries", "french fries"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_unreadable_cutouts_are_passed_over(emoji: Path) -> None:
    (emoji / "bus-flat.png").write_bytes(b"")
    dataset: Dataset = open_dataset(emoji)
    broken = next(index for index, row in enumerate(dataset.rows) if row.key == "bus-flat.png")
    assert Things(dataset).art(broken) is None
