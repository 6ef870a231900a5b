"""Norm, SiLU and convolution of large maps strip by strip: the same numbers, without whole maps in between.

Layer by layer a decoder holds its largest map four or five times. Here what lies between norm and convolution exists
for a few rows at a time, which also stay in the cache of a CPU. Only for inference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit._trace import is_tracing

LARGE = 2**24  # numbers in one map from which on it pays: on a CPU in time too,
LARGE_ELSEWHERE = 2**28  # on a GPU in memory alone
STRIP = 2**21  # numbers in a strip, about,
STRIP_ELSEWHERE = 2**25  # and where no cache is to hold it


def is_own(*layers: nn.Module) -> bool:
    """Whether the weights of these layers are all there is to them: no gradients, no compiler, no hook has a hand in them."""
    hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    return not (hooked or torch.is_grad_enabled() or torch.compiler.is_compiling())


def is_plain(*layers: nn.Module) -> bool:
    """Whether these layers just infer: their weights are all there is to them, and no graph is being made of them."""
    return is_own(*layers) and not is_tracing()


def pays(x: Tensor, *layers: nn.Module) -> bool:
    """Whether a map (B, C, H, W) is so large that strips pay, and these layers just infer."""
    return x[0].numel() >= (LARGE if x.device.type == "cpu" else LARGE_ELSEWHERE) and is_plain(*layers)


def normed_convolution(
    x: Tensor, norm: nn.GroupNorm, convolution: nn.Conv2d, beside: tuple[Tensor, nn.Module] | None = None, spend: bool = False
) -> Tensor:
    """convolution(silu(norm(x))) (B, O, H, W) for x (B, C, H, W) and a 3x3 convolution padded by 1.

    `beside` is a map of the same height and width, and a layer that looks at one position at a time: its answer is added.
    With `spend` nobody needs x any more, and the answer takes its memory; O is C then.
    """
    batch, channels, height, width = x.shape
    factor, offset = _affine(x, norm)
    out = x if spend else x.new_empty(batch, convolution.out_channels, height, width)
    rows = min(strip_rows(x), height)
    strip = x.new_zeros(batch, channels, rows + 2, width)  # at the rim there are zeros behind the SiLU
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        below = min(bottom + 1, height)
        if top:  # the row above is normed already; that of x may be spent
            strip[:, :, 0] = strip[:, :, rows]
        seen = strip[:, :, : bottom - top + 2]
        fresh = seen[:, :, 1 : below - top + 1]
        fresh[:] = torch.addcmul(offset, x[:, :, top:below], factor)
        F.silu(fresh, inplace=True)
        if below == bottom:
            seen[:, :, -1] = 0
        made = F.conv2d(seen, convolution.weight, convolution.bias, padding=(0, 1))
        out[:, :, top:bottom] = made if beside is None else made.add_(beside[1](beside[0][:, :, top:bottom]))
    return out


def strip_rows(x: Tensor) -> int:
    """The rows of a strip of a map (B, C, H, W)."""
    _, channels, _, width = x.shape
    return max(4, (STRIP if x.device.type == "cpu" else STRIP_ELSEWHERE) // (channels * width))


def _affine(x: Tensor, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Factor and offset (B, C, 1, 1), in float32 at least, by which the norm changes every channel of x."""
    exact = torch.promote_types(x.dtype, torch.float32)
    groups = x.reshape(len(x) * norm.num_groups, -1)  # (B G, C / G H W)
    moments = torch.stack([torch.stack(_moments(group.to(exact))) for group in groups])  # (B G, 2)
    mean, variance = moments.view(len(x), norm.num_groups, 2).unbind(2)  # (B, G)
    deviation = (variance + norm.eps).rsqrt()
    inside = norm.num_channels // norm.num_groups
    factor = deviation.repeat_interleave(inside, 1) * norm.weight.to(exact)  # (B, C)
    offset = norm.bias.to(exact) - mean.repeat_interleave(inside, 1) * factor
    return factor[:, :, None, None], offset[:, :, None, None]


def _moments(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of numbers (N,), the mean taken away first: three quick passes, where Welford's one is slow."""
    mean = numbers.mean()
    centred = numbers - mean
    return mean, centred.dot(centred) / len(numbers)
