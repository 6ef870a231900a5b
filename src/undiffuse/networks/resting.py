"""Weights that rest in one place and precision and work in another, a layer at a time: much model in little memory.

A net whose weights rest as their file holds them takes no more memory than the file, whatever it computes in; a net
whose weights rest in the memory of the machine needs of a GPU no more than its largest layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MARK = "_resting"


def rest(net: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Leave the weights of a net where and as they are; a layer that is called gets them on `device` in `dtype`.

    Buffers are moved for good, and keep their type. Without `dtype` weights work in the type that they have. Numbers
    come out as they would from weights moved for good; every call takes the time of moving them. For inference only.
    """
    for layer in net.modules():
        for name, buffer in layer.named_buffers(recurse=False):
            setattr(layer, name, buffer.to(device))
        first = next(layer.parameters(), None)
        if first is not None and MARK not in layer.__dict__:
            layer.__dict__[MARK] = _Resting(layer, device, dtype or first.dtype)


def wake(net: nn.Module) -> None:
    """End what `rest` began; weights stay where they are."""
    for layer in net.modules():
        resting = layer.__dict__.pop(MARK, None)
        if resting is not None:
            resting.end()


def rests(net: nn.Module) -> bool:
    """Whether the weights of a net are at rest."""
    return MARK in net.__dict__


def working_dtype(net: nn.Module) -> torch.dtype:
    """What a net computes in: the type that its weights have, or work in; float32 where there are none."""
    resting = net.__dict__.get(MARK)
    weight = next(net.parameters(), None)
    return resting.dtype if resting is not None else torch.float32 if weight is None else weight.dtype


def work_in(net: nn.Module, dtype: torch.dtype) -> None:
    """Have a net compute in another type, whether its weights are at rest or not."""
    resting = [layer.__dict__[MARK] for layer in net.modules() if MARK in layer.__dict__]
    for one in resting:
        one.dtype = dtype
    if not resting:
        net.to(dtype=dtype)


class _Resting:
    """The hooks of one layer: its own weights come before its call and go behind it, also when it fails."""

    def __init__(self, layer: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._at_rest: dict[str, nn.Parameter] = {}
        self._handles = []
        if layer._parameters:
            handles = layer.register_forward_pre_hook(self._come), layer.register_forward_hook(self._go, always_call=True)
            self._handles = list(handles)

    def end(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _come(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._at_rest = {name: weight for name, weight in layer._parameters.items() if weight is not None}
        for name, weight in self._at_rest.items():
            layer._parameters[name] = nn.Parameter(weight.detach().to(self.device, self.dtype), requires_grad=False)

    def _go(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        layer._parameters.update(self._at_rest)
        self._at_rest = {}
