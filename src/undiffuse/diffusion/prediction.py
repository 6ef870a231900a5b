"""What a net predicts, and how to get from it to the clean estimate x0.

| kind | target                      | source                         |
|------|-----------------------------|--------------------------------|
| eps  | noise                       | Ho et al. 2020, eq. 14         |
| x0   | x0                          | Ho et al. 2020, section 3.2    |
| v    | alpha * noise - sigma * x0  | Salimans & Ho 2022, appendix D |
| flow | noise - x0                  | Liu et al. 2022, eq. 1         |
"""

from __future__ import annotations

from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import pick
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import Schedule

PREDICTIONS = {"eps": "the noise", "x0": "the clean latent", "v": "alpha * noise - sigma * x0", "flow": "noise - x0"}


def add_noise(x0: Tensor, noise: Tensor, level: Level) -> Tensor:
    """x_t = alpha * x0 + sigma * noise, all (B, ...)."""
    alpha, sigma = level.view(x0)
    return alpha * x0 + sigma * noise


def target(kind: str, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
    """What the net should answer at this level, (B, ...).

    Raises:
        SpecError: for an unknown kind.
    """
    pick(PREDICTIONS, kind, "prediction")
    if kind == "eps":
        return noise
    if kind == "x0":
        return x0
    if kind == "flow":
        return noise - x0
    alpha, sigma = level.view(x0)
    return alpha * noise - sigma * x0


def to_x0(kind: str, output: Tensor, xt: Tensor, level: Level) -> Tensor:
    """The clean estimate (B, ...) from the net's output and its input x_t.

    Raises:
        SpecError: for an unknown kind.
    """
    pick(PREDICTIONS, kind, "prediction")
    if kind == "x0":
        return output
    alpha, sigma = level.view(xt)
    if kind == "eps":
        return (xt - sigma * output) / alpha
    if kind == "v":
        return (alpha * xt - sigma * output) / (alpha**2 + sigma**2)
    return (xt - sigma * output) / (alpha + sigma)


def to_noise(x0: Tensor, xt: Tensor, level: Level) -> Tensor:
    """The noise that, with this x0, gives x_t: (x_t - alpha * x0) / sigma. Not for a clean level."""
    alpha, sigma = level.view(xt)
    return (xt - alpha * x0) / sigma


def check_prediction(kind: str, schedule: Schedule) -> None:
    """Refuse to predict noise where there is nothing but noise: at alpha = 0 it says nothing about x0.

    Raises:
        SpecError: for eps on a schedule that reaches alpha = 0, or an unknown kind.
    """
    pick(PREDICTIONS, kind, "prediction")
    if kind == "eps" and schedule.zero_terminal_snr:
        given = "prediction 'eps' on a schedule that ends at alpha = 0"
        raise SpecError(explain(given, "there x0, v and flow are allowed", "use v, or turn zero_terminal_snr off"))
