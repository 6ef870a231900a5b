"""The denoising loss, one pure function."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import add_noise, target
from undiffuse.diffusion.weighting import WeightingSpec, weight

Predict = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""A net: raw output (B, ...) from x_t (B, ...), t (B,) and its conditioning."""


def denoising_loss(
    predict: Predict,
    x0: Tensor,
    cond: Conditioning,
    level: Level,
    noise: Tensor,
    prediction: str,
    weighting: WeightingSpec,
) -> Tensor:
    """Weighted squared error of the net's answer, mean over each picture: (B,) (Rombach et al. 2022, eq. 2).

    Args:
        predict: the net.
        x0: clean latents (B, ...).
        cond: what steers the net.
        level: a level for each row, tensors (B,).
        noise: standard normal, shaped as x0.
        prediction: what the net predicts: eps, x0, v or flow.
        weighting: how levels count.
    """
    rows = level.expand(len(x0), x0.device)
    t = rows.t
    assert isinstance(t, Tensor)
    output = predict(add_noise(x0, noise, level), t.to(x0.dtype), cond)
    error = (output.to(x0.dtype) - target(prediction, x0, noise, level)).square().flatten(1).mean(1)
    return weight(weighting, rows, prediction).to(error) * error
