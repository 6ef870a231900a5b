"""`Muon`: momentum whose update is made orthogonal, for matrices and kernels; AdamW for everything else.

Keller Jordan, https://kellerjordan.github.io/posts/muon; the size of updates as in Liu et al., arXiv 2502.16982, so that
a rate and a weight decay that suit AdamW suit it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from undiffuse.core.devices import choose_precision

TABLE = 32  # times as many rows as columns: each is met too seldom for a step of all at once; they go by AdamW
NARROW = 32  # what has fewer rows or columns goes by AdamW: last layers, attention pools, depthwise kernels
CURVE = (3.4445, -4.7750, 2.0315)  # of a x + b x^3 + c x^5, which takes singular values in (0, 1] to about 1 in five turns
TURNS = 5
LIKE_ADAM = 0.2  # the root mean square of an update of AdamW, about


class Muon(torch.optim.Optimizer):
    """One step moves a matrix by the orthogonal matrix nearest to its momentum, times the rate and its size.

    Kernels (out, in, h, w) count as matrices (out, in * h * w).

    Args:
        parameters: whatever is trained.
        lr: of both halves.
        betas: of AdamW; the first is not the momentum of matrices.
        momentum: of matrices, looked ahead as Nesterov does.
        weight_decay: of everything that has more than one axis.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        eps: float = 1e-8,
    ) -> None:
        wide, narrow, flat = [], [], []
        for one in parameters:
            (flat if one.ndim < 2 else wide if _is_wide(*one.flatten(1).shape) else narrow).append(one)
        groups: list[dict[str, Any]] = [
            {"params": wide, "orthogonal": True, "weight_decay": weight_decay},
            {"params": narrow, "orthogonal": False, "weight_decay": weight_decay},
            {"params": flat, "orthogonal": False, "weight_decay": 0.0},
        ]
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "eps": eps}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move everything that has a gradient."""
        assert closure is None, "gradients are there already"
        for group in self.param_groups:
            move = self._turn if group["orthogonal"] else self._adam
            for one in group["params"]:
                if one.grad is not None:
                    move(one, one.grad, group)

    def _turn(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(momentum, group["momentum"]).flatten(1))
        size = LIKE_ADAM * max(update.shape) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update.view(weight.shape), alpha=-group["lr"] * size)

    def _adam(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state.update(step=torch.tensor(0.0), first=torch.zeros_like(weight), second=torch.zeros_like(weight))
        state["step"] += 1
        step, (b1, b2) = int(state["step"]), group["betas"]
        state["first"].lerp_(gradient, 1 - b1)
        state["second"].mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        root = (state["second"] / (1 - b2**step)).sqrt_().add_(group["eps"])
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.addcdiv_(state["first"], root, value=-group["lr"] / (1 - b1**step))


def _is_wide(rows: int, columns: int) -> bool:
    return min(rows, columns) >= NARROW and rows < TABLE * columns


def orthogonal(matrix: Tensor) -> Tensor:
    """About the orthogonal matrix (m, n) nearest to this one: its singular values near 1, its directions kept.

    By Newton-Schulz turns, in bfloat16 where that is quick. Singular values of a twentieth of the largest and more come out
    between 0.6 and 1.3, smaller ones smaller.
    """
    tall = len(matrix) > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(choose_precision(matrix.device, "auto"))
    x = x / (x.norm() + 1e-7)
    a, b, c = CURVE
    for _ in range(TURNS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
