"""Muon: PyTorch's for matrices, PyTorch's AdamW for the rest, the same after a restart."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from undiffuse.core.random import normal
from undiffuse.training.muon import NARROW, Muon, orthogonal
from undiffuse.training.optim import build_optimizer
from undiffuse.training.recipe import OptimizerSpec

STEPS = 5


def teach(net: nn.Module, *optimizers: torch.optim.Optimizer, first: int = 0, last: int = STEPS) -> None:
    """Some steps towards targets that are functions of the step."""
    for step in range(first, last):
        x, y = normal((16, 48), "muon", "x", step), normal((16, 2), "muon", "y", step)
        net.zero_grad()
        (net(x) - y).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def small_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(48, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 2))


@pytest.mark.parametrize("shape", [(32, 100), (100, 32), (64, 96)])
def test_an_update_is_nearly_orthogonal_and_keeps_its_directions(shape: tuple[int, int]) -> None:
    matrix = normal(shape, "muon")
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)

    turned = orthogonal(matrix)

    assert turned.shape == shape
    values = torch.linalg.svdvals(turned)
    assert 0.6 < float(values.min()) and float(values.max()) < 1.3
    cosine = (turned * (u @ vh)).sum() / turned.norm() / (u @ vh).norm()
    assert float(cosine) > 0.97


def test_wide_weights_move_as_pytorchs_muon_moves_them_and_the_rest_as_its_adamw_does() -> None:
    ours, theirs = small_net(), small_net()
    wide = [one for one in theirs.parameters() if one.ndim == 2 and min(one.shape) >= NARROW]
    narrow = [one for one in theirs.parameters() if one.ndim == 2 and min(one.shape) < NARROW]
    flat = [one for one in theirs.parameters() if one.ndim == 1]
    groups = [{"params": narrow, "weight_decay": 0.1}, {"params": flat, "weight_decay": 0.0}]

    teach(ours, Muon(ours.parameters(), lr=1e-2, weight_decay=0.1))
    teach(
        theirs,
        torch.optim.Muon(wide, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99)),
    )

    for name, one in ours.named_parameters():
        other = theirs.get_parameter(name)
        # Theirs turns in bfloat16 everywhere, ours where that is quick: a step differs by some hundredths of itself.
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3 if min(one.shape) >= NARROW and one.ndim == 2 else 1e-3)


def test_a_kernel_moves_as_the_matrix_of_its_outputs_whatever_its_layout() -> None:
    kernel = nn.Parameter(normal((32, 16, 3, 3), "kernel").contiguous(memory_format=torch.channels_last))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    gradient = normal((32, 16, 3, 3), "gradient")
    kernel.grad, matrix.grad = gradient.contiguous(memory_format=torch.channels_last), gradient.flatten(1)

    for one in (kernel, matrix):
        Muon([one], lr=0.1).step()

    assert torch.equal(kernel.flatten(1), matrix)


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    whole, first = small_net(), small_net()
    spec = OptimizerSpec(kind="muon")
    teach(whole, build_optimizer(spec, whole))
    before = build_optimizer(spec, first)
    teach(first, before, last=2)

    second = copy.deepcopy(first)
    after = build_optimizer(spec, second)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    teach(second, after, first=2)

    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_table_of_many_rows_goes_by_adamw() -> None:
    table, matrix = nn.Parameter(normal((33 * 32, 32), "table")), nn.Parameter(normal((64, 32), "matrix"))
    optimizer = Muon([table, matrix], lr=1e-3)
    turned = [group["params"] for group in optimizer.param_groups if group["orthogonal"]]
    assert [[one is matrix for one in some] for some in turned] == [[True]]
