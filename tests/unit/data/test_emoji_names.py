from __future__ import annotations

from pathlib import Path

import pytest

from undiffuse.data.emoji.art_sets import art_set
from undiffuse.data.emoji.concepts import concept_name, normal_codepoint, read_concepts, slug
from undiffuse.data.emoji.dictionary import Dictionary
from undiffuse.data.emoji.fetch import Tarball
from undiffuse.data.emoji.sources import KEYWORDS, LABELS, STYLES

FOX, GRIN, BEARD = "1F98A", "1F600", "1F9D4"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("fox", "fox"),
        ("T-Rex", "t-rex"),
        ("woman\N{RIGHT SINGLE QUOTATION MARK}s boot", "woman's boot"),
        ("piñata", "pinata"),
        ("man: red hair", "man with red hair"),
        ("woman: bald", "bald woman"),
        ("person: beard", "person with a beard"),
        ("man running: facing right", "man running facing right"),
        ("kiss: woman, man", "kiss between woman and man"),
        ("couple with heart: man, man", "couple with heart, man and man"),
    ],
)
def test_labels_become_phrases(label: str, name: str) -> None:
    assert concept_name(label) == name


def test_slugs_are_file_names() -> None:
    assert slug("Mrs. Claus") == "mrs-claus"
    assert slug("woman\N{RIGHT SINGLE QUOTATION MARK}s boot") == "womans-boot"
    assert slug("Fork & Knife") == "fork-and-knife"


def test_code_points_lose_the_variation_selector() -> None:
    assert normal_codepoint("1f577-fe0f") == "1F577"


def test_concepts_leave_out_flags_arrows_and_families(downloads: Path) -> None:
    concepts = read_concepts(Tarball(downloads / LABELS.tarball), Tarball(downloads / KEYWORDS.tarball))
    assert [concept.name for concept in concepts] == ["grinning face", "person with a beard", "fox"]
    fox = concepts[-1]
    assert (fox.codepoint, fox.group, fox.subgroup) == (FOX, "animals-nature", "animal-mammal")
    assert fox.keywords == ("face", "reynard", "fox face", "animal")


def test_skin_tones_are_concepts_on_request(downloads: Path) -> None:
    concepts = read_concepts(Tarball(downloads / LABELS.tarball), Tarball(downloads / KEYWORDS.tarball), skins=True)
    tone = next(concept for concept in concepts if concept.codepoint != concept.base)
    assert (tone.name, tone.base) == ("person with dark skin tone and beard", BEARD)


def test_every_naming_leads_to_the_same_code_points(downloads: Path) -> None:
    sets = {style.id: art_set(style, Tarball(downloads / style.package.tarball)) for style in STYLES}
    dictionary = Dictionary(Tarball(downloads / LABELS.tarball), [art.table() for art in sets.values()])
    icons = {name: art.icons(dictionary) for name, art in sets.items()}
    assert icons["fluent-3d"][FOX] == "assets/1f98a.webp"
    assert icons["twemoji"][FOX] == "fox"
    assert icons["emojione"][FOX] == "fox-face"  # an old label, known from an alias of a set with a table
    assert icons["fxemoji"][FOX] == "reynard"  # a chat shortcode
    assert icons["fxemoji"][GRIN] == "grinningface"
    assert "tramcar" not in icons["fxemoji"].values()  # known to be broken


def test_ambiguous_and_mirrored_names_mean_nothing(downloads: Path) -> None:
    noto = next(style for style in STYLES if style.id == "noto")
    table = art_set(noto, Tarball(downloads / noto.package.tarball)).table()
    dictionary = Dictionary(Tarball(downloads / LABELS.tarball), [table])
    assert dictionary.joined("animal") is None  # a shortcode of two emoji
    assert dictionary.slug("xof") is None  # an alias that is drawn mirrored
    assert dictionary.slug("fox-face") == FOX
