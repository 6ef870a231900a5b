"""Classifier-free guidance against its equations and a case that is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.diffusion.grid import make_grid
from undiffuse.diffusion.guidance import Others, classifier_free, stacked
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule

MIDDLE = Level(500.0, 0.6, 0.8)
X = normal((3, 2, 4, 4), "guidance", "x").double()


def words(*values: float) -> Conditioning:
    return Conditioning(vector=torch.tensor(values, dtype=torch.float64).view(-1, 1))


class Net:
    """A denoiser that is no line in x or in its words, and remembers how it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Level, Conditioning]] = []

    def __call__(self, x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        self.calls.append((x, level, cond))
        assert cond.vector is not None
        word = cond.vector.view(-1, 1, 1, 1)
        alpha, _ = level.view(x)
        return torch.sin(x * (1 + word)) + 0.3 * word**2 + 0.1 * alpha


def ask(word: float, level: Level = MIDDLE) -> Tensor:
    return Net()(X, level, words(*[word] * 3))


def test_the_estimate_is_pushed_away_from_the_negative() -> None:
    guided = classifier_free(Net(), words(-0.5), 7.5)(X, MIDDLE, words(1.0, 1.0, 1.0))
    torch.testing.assert_close(guided, ask(-0.5) + 7.5 * (ask(1.0) - ask(-0.5)))


def test_guiding_x0_is_guiding_the_noise() -> None:
    """Ho & Salimans 2022, eq. 6, says it of eps."""
    guided = classifier_free(Net(), words(-0.5), 3.0)(X, MIDDLE, words(1.0, 1.0, 1.0))
    without, towards = (to_noise(ask(word), X, MIDDLE) for word in (-0.5, 1.0))
    torch.testing.assert_close(to_noise(guided, X, MIDDLE), without + 3.0 * (towards - without))


@pytest.mark.parametrize("scale", [0.0, 1.5, 4.0])
def test_between_two_normal_laws_guidance_moves_the_mean(gaussian, scale: float) -> None:
    """With equal deviations the guided score is the score of a normal law again: mean m- + scale (m+ - m-)."""

    def denoise(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        assert cond.vector is not None
        means = cond.vector.flatten().tolist()
        return torch.stack(
            [gaussian(mean, 0.5).denoise(row, level, Conditioning()) for row, mean in zip(x, means, strict=True)]
        )

    guided = classifier_free(denoise, words(-0.4), scale)(X, MIDDLE, words(0.6, 0.6, 0.6))
    moved = gaussian(-0.4 + scale * 1.0, 0.5).denoise(X, MIDDLE, Conditioning())
    torch.testing.assert_close(guided, moved)


def test_both_answers_come_from_one_call_negative_first() -> None:
    net = Net()
    classifier_free(net, words(-0.5), 2.0)(X, MIDDLE, words(1.0, 2.0, 3.0))
    ((x, level, cond),) = net.calls
    assert torch.equal(x, torch.cat([X, X]))
    assert level == MIDDLE
    assert cond.vector is not None
    assert cond.vector.flatten().tolist() == [-0.5, -0.5, -0.5, 1.0, 2.0, 3.0]


def test_every_picture_may_have_a_negative_of_its_own() -> None:
    guided = classifier_free(Net(), words(-0.5, 0.0, 0.4), 2.0)(X, MIDDLE, words(1.0, 1.0, 1.0))
    for row, negative in enumerate((-0.5, 0.0, 0.4)):
        expected = ask(negative) + 2.0 * (ask(1.0) - ask(negative))
        torch.testing.assert_close(guided[row], expected[row])


def test_a_scale_of_one_asks_for_the_conditional_alone() -> None:
    net = Net()
    guided = classifier_free(net, words(-0.5), 1.0)(X, MIDDLE, words(1.0, 1.0, 1.0))
    assert torch.equal(guided, ask(1.0))
    assert len(net.calls[0][0]) == 3


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_rescale_takes_contrast_back_picture_by_picture(share: float) -> None:
    """Lin et al. 2024, eq. 15 and 16."""
    guided = classifier_free(Net(), words(-0.5), 5.0, rescale=share)(X, MIDDLE, words(1.0, 1.0, 1.0))
    plain, towards = ask(-0.5) + 5.0 * (ask(1.0) - ask(-0.5)), ask(1.0)
    for row in range(3):
        rescaled = plain[row] * towards[row].std() / plain[row].std()
        torch.testing.assert_close(guided[row], share * rescaled + (1 - share) * plain[row])
        if share == 1.0:
            torch.testing.assert_close(guided[row].std(), towards[row].std())


def test_outside_its_interval_guidance_is_off_and_costs_nothing() -> None:
    net = Net()
    guide = classifier_free(net, words(-0.5), 4.0, interval=(0.2, 0.8))
    grid = make_grid(build_schedule(ScheduleSpec(kind="flow")), 10, "trailing")
    batches = []
    for level in grid.levels[:-1]:
        guide(X, level, words(1.0, 1.0, 1.0))
        batches.append(len(net.calls[-1][0]))
    assert batches == [3, 3, 6, 6, 6, 6, 6, 6, 6, 3]  # u = 1.0, 0.9, 0.8 ... 0.2, 0.1: both ends belong to it


def test_the_whole_interval_holds_both_ends_of_every_schedule() -> None:
    net = Net()
    guide = classifier_free(net, words(-0.5), 4.0)
    for level in (Level(1000.0, 0.0, 1.0), Level(0.0, 1.0, 0.0)):
        guide(X, level, words(1.0, 1.0, 1.0))
        assert len(net.calls[-1][0]) == 6


def test_rows_at_different_levels_are_guided_each_by_its_own() -> None:
    """Requests that share a batch must not decide for one another."""
    u = torch.tensor([0.9, 0.5, 0.05])
    guide = classifier_free(Net(), words(-0.5), 4.0, interval=(0.2, 0.8))
    together = guide(X, Level(1000 * u, 1 - u, u), words(1.0, 1.0, 1.0))
    for row, share in enumerate(u):
        alone = guide(X[row : row + 1], Level(1000 * share, 1 - share, share), words(1.0))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"interval": (0.5, 0.5)}, {"interval": (-0.1, 1.0)}, {"interval": (0.0, 1.2)}, {"rescale": 1.5}, {"rescale": -0.1}],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="0 <= low < high <= 1 and 0 <= rescale <= 1 are allowed"):
        classifier_free(Net(), words(0.0), 2.0, **options)


def test_negatives_that_fit_no_batch_are_refused() -> None:
    guide = classifier_free(Net(), words(-0.5, 0.5), 2.0)
    with pytest.raises(SpecError, match="2 negatives for 3 pictures; one for all or one each is allowed"):
        guide(X, MIDDLE, words(1.0, 1.0, 1.0))


def test_contexts_add_up_each_with_its_own_scale() -> None:
    """Brooks et al. 2023, eq. 3."""
    net = Net()
    guided = stacked(net, [(words(-0.5), 1.5), (words(0.2), 6.0)])(X, MIDDLE, words(1.0, 1.0, 1.0))
    torch.testing.assert_close(guided, ask(-0.5) + 1.5 * (ask(0.2) - ask(-0.5)) + 6.0 * (ask(1.0) - ask(0.2)))
    assert len(net.calls) == 1


def test_equal_scales_are_one_guidance() -> None:
    """The stages in between cancel."""
    alone = classifier_free(Net(), words(-0.5), 3.0)(X, MIDDLE, words(1.0, 1.0, 1.0))
    both = stacked(Net(), [(words(-0.5), 3.0), (words(0.2), 3.0)])(X, MIDDLE, words(1.0, 1.0, 1.0))
    torch.testing.assert_close(both, alone)


def test_a_scale_of_one_everywhere_asks_once() -> None:
    net = Net()
    guided = stacked(net, [(words(-0.5), 1.0), (words(0.2), 1.0)])(X, MIDDLE, words(1.0, 1.0, 1.0))
    torch.testing.assert_close(guided, ask(1.0))
    assert len(net.calls[0][0]) == len(X)


BESIDE = Others(words(-0.2, 0.7, 0.4), owners=(2, 0, 2), weights=(0.5, 1.5, -1.0), first=(1.0, 1.0, 2.0))


def composed(scale: float, negative: float = -0.5) -> list[Tensor]:
    """A1111's formula, picture by picture."""
    told = [[(1.0, 0.9), (1.5, 0.7)], [(1.0, 0.3)], [(2.0, 0.1), (0.5, -0.2), (-1.0, 0.4)]]
    less = ask(negative)
    return [
        less[row] + sum(scale * weight * (ask(word)[row] - less[row]) for weight, word in parts)
        for row, parts in enumerate(told)
    ]


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_others_are_added_each_with_its_weight(scale: float) -> None:
    net = Net()
    guided = stacked(net, [(words(-0.5), scale)], others=BESIDE)(X, MIDDLE, words(0.9, 0.3, 0.1))
    torch.testing.assert_close(guided, torch.stack(composed(scale)))
    ((x, _, _),) = net.calls
    assert len(x) == 9


def test_others_join_the_last_context() -> None:
    guided = stacked(Net(), [(words(-0.5), 1.5), (words(0.2), 4.0)], others=BESIDE)(X, MIDDLE, words(0.9, 0.3, 0.1))
    before = ask(-0.5) + 1.5 * (ask(0.2) - ask(-0.5))
    torch.testing.assert_close(guided, before + torch.stack(composed(4.0, negative=0.2)) - ask(0.2))


def test_where_guidance_is_off_others_are_followed_all_the_same() -> None:
    guide = stacked(Net(), [(words(-0.5), 4.0)], interval=(0.0, 0.2), others=BESIDE)
    guided = guide(X, MIDDLE, words(0.9, 0.3, 0.1))
    torch.testing.assert_close(guided, torch.stack(composed(1.0)))
    assert torch.equal(guided[1], ask(0.3)[1])  # it has no others: to the bit


def test_contrast_is_that_of_all_together() -> None:
    guided = stacked(Net(), [(words(-0.5), 4.0)], rescale=1.0, others=BESIDE)(X, MIDDLE, words(0.9, 0.3, 0.1))
    for row, towards in enumerate(composed(1.0)):
        torch.testing.assert_close(guided[row].std(), towards.std())


def test_others_are_asked_at_the_level_of_their_picture() -> None:
    u = torch.tensor([0.9, 0.5, 0.3], dtype=torch.float64)
    together = stacked(Net(), [(words(-0.5), 4.0)], others=BESIDE)(X, Level(1000 * u, 1 - u, u), words(0.9, 0.3, 0.1))
    alone = Others(words(0.7), owners=(0,), weights=(1.5,), first=(1.0,))
    guide = stacked(Net(), [(words(-0.5), 4.0)], others=alone)
    torch.testing.assert_close(together[:1], guide(X[:1], Level(1000 * u[0], 1 - u[0], u[0]), words(0.9)))
