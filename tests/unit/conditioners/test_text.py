"""Captions to conditioning: the same bits in every company, and what is remembered."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import Tokenizer

from undiffuse.conditioners import text as module
from undiffuse.conditioners.base import Sight, Surroundings
from undiffuse.conditioners.text import BertSpec, SketchSpec, TextConditioner, TextSpec
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.networks.sketcher import Sketcher, resized
from undiffuse.networks.text.bert import BertEncoder

BLIND = Sight(encode=torch.clone, describe=torch.clone, size=(8, 8))
PROMPTS = ["a fox", "a rocket a fox", "", "fox fox fox fox fox fox fox"]


@pytest.fixture
def part(tokenizer: Tokenizer, encoder: BertEncoder) -> TextConditioner:
    return TextConditioner(tokenizer, encoder, length=8)


def rows_of(*captions: str) -> list[dict[str, str]]:
    return [{"caption": caption} for caption in captions]


def assert_same_bits(one: Conditioning, other: Conditioning) -> None:
    assert one.slots().keys() == other.slots().keys()
    assert all(torch.equal(value, other.slots()[name]) for name, value in one.slots().items())


def test_slots_and_widths(part: TextConditioner) -> None:
    cond = part(rows_of(*PROMPTS))
    assert {name: tuple(value.shape) for name, value in cond.slots().items()} == {
        "vector": (4, 16),
        "tokens": (4, 8, 16),
        "token_mask": (4, 8),
    }
    assert (part.token_width, part.vector_width) == (16, 16)


def test_the_vector_is_the_mean_of_the_tokens_that_count(part: TextConditioner) -> None:
    cond = part(rows_of("a fox"))
    assert cond.tokens is not None and cond.token_mask is not None and cond.vector is not None
    assert cond.token_mask.sum() == 4
    torch.testing.assert_close(cond.vector[0], cond.tokens[0, :4].mean(0))
    assert not cond.tokens[0, 4:].any()


def test_without_pooling_there_is_no_vector(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    part = TextConditioner(tokenizer, encoder, length=8, pooled=False)
    assert part(rows_of("fox")).vector is None
    assert part.vector_width == 0


def test_company_and_order_do_not_change_a_prompt(part: TextConditioner) -> None:
    together = part(rows_of(*PROMPTS))
    part.forget()
    for i in reversed(range(len(PROMPTS))):
        assert_same_bits(part(rows_of(PROMPTS[i])), together.select([i]))


def test_a_remembered_prompt_is_not_encoded_again(part: TextConditioner, monkeypatch: pytest.MonkeyPatch) -> None:
    first = part(rows_of("fox"))
    monkeypatch.setattr(part.encoder, "forward", None)
    assert_same_bits(part(rows_of("fox", "fox")).select([1]), first)


def test_the_oldest_prompt_is_forgotten_first(part: TextConditioner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    part(rows_of("a", "b", "a", "c"))
    assert list(part._remembered) == ["a", "c"]


def test_new_weights_are_used_at_once(part: TextConditioner) -> None:
    before = part(rows_of("fox"))
    changed = {name: value + normal(value.shape, "text", name) for name, value in part.state_dict().items()}
    part.load_state_dict(changed)
    assert not torch.equal(part(rows_of("fox")).tokens, before.tokens)


def test_a_cast_encoder_answers_in_its_own_precision(part: TextConditioner) -> None:
    part(rows_of("fox"))
    tokens = part.double()(rows_of("fox")).tokens
    assert tokens is not None and tokens.dtype == torch.float64


def test_the_mode_of_the_first_caller_is_not_remembered(part: TextConditioner) -> None:
    plain = part(rows_of("fox"))
    part.forget()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        part(rows_of("fox"))
    again = part(rows_of("fox"))
    assert_same_bits(again, plain)
    weight = torch.ones(16, requires_grad=True)
    (again.tokens @ weight).sum().backward()  # a tensor born in inference mode would refuse
    assert weight.grad is not None


def test_a_copy_remembers_for_itself(part: TextConditioner) -> None:
    part(rows_of("fox"))
    twin = copy.deepcopy(part)
    twin.load_state_dict({name: value * 2 for name, value in part.state_dict().items()})
    assert not twin._remembered
    assert list(part._remembered) == ["fox"]


def test_null_is_the_empty_caption(part: TextConditioner) -> None:
    assert_same_bits(part.null(3), part(rows_of("", "", "")))
    assert_same_bits(part([{}, {"caption": None}, {"label": "fox"}]), part.null(3))


def test_many_at_once_equal_single_ones(part: TextConditioner) -> None:
    states, mask = part.states(PROMPTS)
    single = part(rows_of(*PROMPTS))
    torch.testing.assert_close(states, single.tokens, atol=1e-6, rtol=0)
    assert torch.equal(mask, single.slots()["token_mask"])


def test_a_frozen_encoder_gets_no_gradient(part: TextConditioner) -> None:
    assert not part(rows_of("fox")).tokens.requires_grad
    assert not any(parameter.requires_grad for parameter in part.parameters())


def test_a_trainable_encoder_gets_gradients_and_remembers_nothing(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    part = TextConditioner(tokenizer, encoder, length=8, frozen=False)
    part(rows_of("fox", "")).vector.square().sum().backward()
    assert encoder.words.weight.grad is not None
    assert not part._remembered


def test_too_long_captions_are_known(part: TextConditioner) -> None:
    assert part.truncated(PROMPTS) == [False, False, False, True]


def test_a_length_beyond_the_encoder_is_refused(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    with pytest.raises(SpecError, match="captions of 13 tokens; the text encoder holds up to 12"):
        TextConditioner(tokenizer, encoder, length=13)


def test_another_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    other = BertEncoder(vocabulary=5, width=16, layers=1, heads=4, hidden=8, positions=12)
    with pytest.raises(SpecError, match="an encoder of 5"):
        TextConditioner(tokenizer, other, length=8)


SKETCH = SketchSpec(channels=2, side=4, pools=1, width=8, depth=1, rank=3)


@pytest.fixture
def sketching(tokenizer: Tokenizer, encoder: BertEncoder) -> TextConditioner:
    return TextConditioner(tokenizer, encoder, length=8, sketcher=Sketcher(16, **SKETCH.model_dump()))


def test_a_sketch_fills_the_spatial_slot(sketching: TextConditioner) -> None:
    cond = sketching(rows_of(*PROMPTS), (4, 4))
    assert cond.spatial is not None and cond.tokens is not None and cond.token_mask is not None
    assert cond.spatial.shape == (4, 2, 4, 4) and sketching.spatial_channels == 2
    assert sketching.sketcher is not None
    torch.testing.assert_close(cond.spatial, sketching.sketcher(cond.tokens, cond.token_mask))
    assert not cond.spatial.requires_grad
    assert_same_bits(sketching(rows_of("a fox"), (4, 4)), cond.select([0]))


def test_a_sketch_takes_the_size_of_the_latent(sketching: TextConditioner) -> None:
    own, wide = (sketching(rows_of("a fox"), size).spatial for size in (None, (4, 8)))
    assert own is not None and wide is not None
    assert (own.shape, wide.shape) == ((1, 2, 4, 4), (1, 2, 4, 8))
    assert torch.equal(wide, resized(own, (4, 8)))
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 2, 4, 4)
    torch.testing.assert_close(resized(ramp, (4, 8))[0, 0, 0], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


def test_a_sketch_from_memory_agrees_with_what_is_around_a_hole(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    sketcher = Sketcher(16, **SKETCH.model_copy(update={"remembered": 2, "key": 4, "traits": 1}).model_dump())
    part = TextConditioner(tokenizer, encoder, length=8, sketcher=sketcher)
    assert sketcher.memory is not None
    paint, cover = torch.full((2, 4, 4), 2.0), torch.ones(1, 4, 4)
    things = torch.stack([torch.cat([side * paint, cover]) for side in (1, -1)])
    sketcher.memory.keep(things, things.mean(0), torch.cat([paint / paint.norm(), 0 * cover])[None])
    with torch.no_grad():
        sketcher.memory.keys.zero_()  # words speak for both alike, and for neither
    hole = torch.zeros(1, 4, 4)
    hole[:, 3, 3] = 1
    rows = [{"caption": "a fox", "hole": hole, "around": torch.full((2, 4, 4), side)} for side in (2.0, -2.0)]
    rows += [{"caption": "a fox"}, {"hole": hole, "around": rows[0]["around"]}, {}]
    found = part(rows, (4, 4)).spatial
    assert found is not None
    kept = sketcher.memory.kept(torch.arange(2))[:, :2]
    torch.testing.assert_close(found[:2], kept)
    words, nothing, empty = found[2:]
    assert min(float((words - some).abs().max()) for some in kept) > 1  # words alone cannot tell which
    assert torch.equal(nothing, empty)
    for row, one in zip(rows, found, strict=True):
        torch.testing.assert_close(part([row], (4, 4)).spatial, one[None])
    shares, maps = part.called_to_mind(rows[1], 2)
    torch.testing.assert_close(maps[0], kept[1])
    strange = {**rows[0], "around": torch.tensor([2.0, -2.0]).view(2, 1, 1).expand(2, 4, 4)}
    assert [round(part.agrees(row), 2) for row in (*rows, strange)] == [1, 1, 0, 0, 0, 0]
    assert float(shares[0]) > 0.99 > float(part.called_to_mind(rows[2], 2)[0][0])


def test_a_row_may_bring_its_sketch(sketching: TextConditioner) -> None:
    own = torch.arange(32.0).view(2, 4, 4)
    rows = [{"caption": "a fox"}, {"caption": "a fox", "sketch": own}]
    made, alone = (sketching(some, (4, 8)).spatial for some in (rows, rows[:1]))
    assert made is not None and alone is not None
    torch.testing.assert_close(made[:1], alone)
    torch.testing.assert_close(made[1:], resized(own[None], (4, 8)))


def test_things_that_are_named_are_those_remembered(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    sketcher = Sketcher(16, **SKETCH.model_copy(update={"remembered": 3, "key": 4, "traits": 2}).model_dump())
    part = TextConditioner(tokenizer, encoder, length=8, classes=("fox", "boat"), sketcher=sketcher)
    assert sketcher.memory is not None
    sketcher.memory.keep(normal((3, 3, 4, 4), "things"), torch.zeros(3, 4, 4), torch.eye(48)[:2].view(2, 3, 4, 4))
    with torch.no_grad():
        sketcher.memory.lean.copy_(torch.tensor([0.0, 1e4, 2e4, 3e4]))  # the last stands for none of them
    (likeliest,), (second,) = (sketcher.memory.kept(torch.tensor([place])) for place in (2, 1))
    assert torch.equal(part.things("fox", 2), torch.stack([likeliest, second]))
    assert len(part.things("fox", 9)) == 3
    assert part.names_in("two boats and a fox") == ["boat", "fox"]
    assert part.names_in("a tree") == []
    assert len(TextConditioner(tokenizer, encoder, length=8).things("fox", 2)) == 0


def test_a_spec_with_a_sketch_builds_one(tokenizer: Tokenizer) -> None:
    sizes = BertSpec(vocabulary=tokenizer.get_vocab_size(), width=16, layers=1, heads=4, hidden=8, positions=12)
    spec = TextSpec(encoder=sizes, length=8, sketch=SKETCH)
    assert spec.routes() == (16, 16, 2)
    part = spec.build(tokenizer)
    assert isinstance(part.sketcher, Sketcher) and part.spatial_channels == 2
    assert TextSpec(encoder=sizes, length=8).build(tokenizer).sketcher is None


def test_states_of_many_captions_are_those_of_each_and_zero_at_padding(part: TextConditioner) -> None:
    states, mask = part.states(["a fox", "a rocket a fox"])
    assert states.shape == (2, 8, 16) and mask.sum(1).tolist() == [4, 6] and not states[~mask].any()
    alone, _ = part.states(["a fox"])
    torch.testing.assert_close(states[:1], alone)
    ids, all_there, _ = part._tokenize(["a rocket a fox"])
    torch.testing.assert_close(states[1], (part.encoder(ids, all_there) * all_there[..., None])[0])  # padding and all


def test_a_label_is_read_by_its_name_before_what_else_is_said(part: TextConditioner) -> None:
    assert part.fields == ("caption",) and part.read([{"label": "fox"}], BLIND) == [{}]  # it has none
    part.call(["fox", "rocket"])
    assert part.fields == ("caption", "label")
    given = [{"label": "fox", "caption": ""}, {"label": "fox", "caption": "red"}, {"caption": "a fox"}, {}]
    assert part.read(given, BLIND) == [{"caption": "fox"}, {"caption": "fox, red"}, {"caption": "a fox"}, {}]
    with pytest.raises(SpecError, match="unknown label 'foxes'; this model knows 2 labels, the nearest: fox"):
        part.read([{"label": "foxes"}], BLIND)


def test_a_spec_takes_labels_from_the_data_set() -> None:
    surroundings = Surroundings(channels=4, factor=8, labels=("fox", "rocket"))
    assert TextSpec().fitted(surroundings).classes == ()
    spec = TextSpec(labelled=True).fitted(surroundings)
    assert spec.classes == ("fox", "rocket")
    assert TextSpec().going_on(TextSpec(labelled=True, length=9)).fitted(surroundings).classes == ("fox", "rocket")
    assert TextSpec(labelled=True, classes=("owl", "fox")).fitted(surroundings).classes == ("owl", "fox", "rocket")
    assert spec.going_on(TextSpec(drop=0.5)).classes == ("fox", "rocket")
