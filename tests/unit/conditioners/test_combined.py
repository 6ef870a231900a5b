"""The parts of a model as one: merging, the null, dropout, and fields that were never learned."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from undiffuse.conditioners.base import Sight, Surroundings
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.table import KINDS
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import SpecError
from undiffuse.networks.text.bert import BertEncoder

NO_SIGHT = Sight(encode=lambda pixels: pixels, describe=lambda pixels: pixels, size=(8, 8))
ROWS = [{"caption": "a fox", "label": "fox"}, {"caption": "a rocket"}, {"label": "cat"}]


@pytest.fixture
def text(tokenizer: Tokenizer, encoder: BertEncoder) -> TextConditioner:
    return TextConditioner(tokenizer, encoder, length=8)


@pytest.fixture
def vectors() -> LabelConditioner:
    return LabelConditioner(["cat", "fox"], width=5)


@pytest.fixture
def tokens() -> LabelConditioner:
    return LabelConditioner(["cat", "fox"], width=16, route="tokens")


def test_vectors_join_on_features(text: TextConditioner, vectors: LabelConditioner) -> None:
    both = Conditioner([text, vectors])
    cond = both(ROWS)
    assert torch.equal(cond.vector, torch.cat([text(ROWS).vector, vectors(ROWS).vector], dim=1))
    assert torch.equal(cond.tokens, text(ROWS).tokens)
    assert (both.vector_width, both.token_width, both.spatial_channels) == (21, 16, 0)


def test_tokens_and_masks_join_on_the_token_axis(text: TextConditioner, tokens: LabelConditioner) -> None:
    both = Conditioner([text, tokens])(ROWS).slots()
    assert torch.equal(both["tokens"], torch.cat([text(ROWS).tokens, tokens(ROWS).tokens], dim=1))
    assert torch.equal(both["token_mask"][:, :8], text(ROWS).token_mask)
    assert both["token_mask"][:, 8].all()


def test_tokens_without_any_mask_stay_without(tokens: LabelConditioner) -> None:
    assert Conditioner([tokens])(ROWS).token_mask is None


def test_tokens_of_two_widths_are_refused(text: TextConditioner) -> None:
    with pytest.raises(SpecError, match=r"tokens of widths \[7, 16\]"):
        Conditioner([text, LabelConditioner(["fox"], width=7, route="tokens")])


def test_a_missing_field_is_the_null_of_its_part(text: TextConditioner, vectors: LabelConditioner) -> None:
    both = Conditioner([text, vectors])
    cond, null = both(ROWS).slots(), both.null(1).slots()
    assert torch.equal(cond["vector"][1, 16:], null["vector"][0, 16:])
    assert torch.equal(cond["tokens"][2], null["tokens"][0])
    assert not torch.equal(cond["tokens"][0], null["tokens"][0])


def test_a_row_without_a_part_says_nothing_to_it(text: TextConditioner, vectors: LabelConditioner) -> None:
    both = Conditioner([text, vectors])
    silent = [both.without(row, [vectors]) for row in ROWS]
    cond, null = both(silent).slots(), both.null(3).slots()
    assert torch.equal(cond["tokens"], both(ROWS).slots()["tokens"])
    assert torch.equal(cond["vector"][:, 16:], null["vector"][:, 16:])
    assert both.without(ROWS[0], both.parts) == {}


def test_a_dropped_row_teaches_the_null(vectors: LabelConditioner) -> None:
    both = Conditioner([vectors])
    cond = both([{"label": "fox"}, both.without({"label": "fox"}, [vectors])]).slots()["vector"]
    (gradient,) = torch.autograd.grad(cond.sum(), vectors.table.weight)
    assert gradient.sum(1).tolist() == [0, 5, 5]


def test_no_parts_condition_on_nothing() -> None:
    empty = Conditioner()
    assert empty(ROWS).slots() == {}
    assert empty.read(ROWS, NO_SIGHT) == [{}, {}, {}]
    with pytest.raises(SpecError, match="has not learned 'caption'; it reads: nothing"):
        empty.require(["caption"])


def test_readings_of_all_parts_stand_in_one_row(text: TextConditioner, vectors: LabelConditioner) -> None:
    given = [{"caption": "a fox", "label": "fox", "weather": "rain"}, {"label": None}]
    assert Conditioner([text, vectors]).read(given, NO_SIGHT) == [{"caption": "a fox", "label": "fox"}, {}]


def test_fields_never_learned_are_named(text: TextConditioner, vectors: LabelConditioner) -> None:
    Conditioner([text, vectors]).require(["caption", "label"])
    with pytest.raises(SpecError) as caught:
        Conditioner([text]).require(["caption", "label"])
    assert str(caught.value) == "this model has not learned 'label'; it reads: caption."


def test_trainable_parameters_are_those_of_the_parts(text: TextConditioner, vectors: LabelConditioner) -> None:
    trainable = [name for name, p in Conditioner([text, vectors]).named_parameters() if p.requires_grad]
    assert trainable == ["parts.1.table.weight"]


@pytest.mark.parametrize("how", ["learned", "resize"])
def test_every_slot_lies_where_the_conditioner_was_moved_to(how: str) -> None:
    around = Surroundings(4, 4, ("fox",), ("sky", "ground"), ("fox",), 16)
    encoders = ("text", "clip")  # frozen, they work under autocast, which this device does not know
    raws = [{"kind": kind} | ({"how": how} if kind == "map" else {}) for kind in KINDS if kind not in encoders]
    parts = [KINDS[raw["kind"]].parse(raw).fitted(around).build(None) for raw in raws]
    said = {
        "hole": torch.zeros(1, 2, 2),
        "around": torch.zeros(4, 2, 2),
        "layout": torch.zeros(8, 8),
        "small": torch.zeros(3, 2, 2),
    }
    cond = Conditioner(parts).to("meta")([{"label": "fox", **said}, {}], (2, 2))

    assert len(parts) == len(KINDS) - len(encoders) and set(cond.slots()) == {"vector", "tokens", "token_mask", "spatial"}
    for part in parts:
        slots = part([{"label": "fox", **said}, {}], (2, 2)).slots()
        assert slots and {value.device.type for value in slots.values()} == {"meta"}
