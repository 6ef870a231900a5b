"""Where learned words stand in a text, and their vectors behind those of a text encoder."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from undiffuse.core.errors import ShapeMismatch
from undiffuse.core.random import normal
from undiffuse.networks.text.learned import NewWords, split_at

FOX, BOAT = normal((2, 3), "learned", "fox"), normal((1, 3), "learned", "boat")
NAMES = ("fox", "fox two", "<cat>", "a.b")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [""]),
        ("a boat", ["a boat"]),
        ("fox", ["", "fox", ""]),
        ("a Fox, and FOX", ["a ", "fox", ", and ", "fox", ""]),
        ("foxes, a-fox, my_fox, fox2", ["foxes, a-", "fox", ", my_fox, fox2"]),
        ("fox two foxtwo", ["", "fox two", " foxtwo"]),
        ("(embedding:fox:1.2)", ["(", "fox", ":1.2)"]),
        ("embedding:boat", ["embedding:boat"]),
        ("a<cat>s <CAT><cat>", ["a", "<cat>", "s ", "<cat>", "", "<cat>", ""]),
        ("a.b acb", ["", "a.b", " acb"]),
    ],
)
def test_names_are_found_as_words(text: str, pieces: list[str]) -> None:
    assert split_at(text, NAMES) == pieces


@given(st.text())
def test_nothing_is_lost_without_names(text: str) -> None:
    assert split_at(text, ()) == [text]


@given(st.text(alphabet="fox tw<cat>:, \u017f"))
def test_names_stand_at_odd_places_and_plain_text_at_even_ones(text: str) -> None:
    pieces = split_at(text, NAMES)
    assert len(pieces) % 2 == 1
    assert all(piece in NAMES for piece in pieces[1::2])
    assert "embedding:" in text or sum(map(len, pieces)) == len(text)


def test_ids_behind_the_table_stand_for_new_vectors_and_all_others_for_its_own() -> None:
    table = nn.Embedding(5, 3)
    words = NewWords(table)
    assert words.learn("fox", FOX) == (5, 6)
    assert words.learn("boat", BOAT) == (7,)
    assert words.ids == {"fox": (5, 6), "boat": (7,)}
    ids = torch.tensor([[0, 7, 4], [6, 5, 1]])
    whole = torch.cat([table.weight, FOX, BOAT])  # as if the table had grown
    assert torch.equal(words.embed(ids), whole[ids])
    assert list(table.state_dict()) == ["weight"]
    assert len(table.weight) == 5


def test_a_word_that_is_learned_again_has_its_new_vectors() -> None:
    words = NewWords(nn.Embedding(5, 3))
    words.learn("fox", BOAT)
    ids = words.learn("fox", FOX)
    assert torch.equal(words.embed(torch.tensor(ids)), FOX)


def test_vectors_come_in_the_precision_of_the_table_and_known_ones_keep_their_gradients() -> None:
    table = nn.Embedding(5, 3).to(torch.bfloat16)
    words = NewWords(table)
    ids = words.learn("fox", FOX)
    assert torch.equal(words.embed(torch.tensor(ids)), FOX.bfloat16())
    words.embed(torch.tensor([1, ids[0]])).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.abs().sum(1).tolist() == [0, 3, 0, 0, 0]


@pytest.mark.parametrize("shape", [(2, 4), (3,), (1, 2, 3)])
def test_vectors_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatch, match="'fox'"):
        NewWords(nn.Embedding(5, 3)).learn("fox", torch.ones(shape))
