"""`Added`: terms at work beside the layers of a net, or folded into its weights and taken out again to the bit.

Terms work through forward hooks of the layers that they belong to. So the net keeps its modules, its code and the names
of its state dict, whatever is attached; a checkpoint written meanwhile holds the net without the terms; and
detaching leaves nothing behind. Wrapping or parametrising the layers would rename every weight. The price is a small
product or two for each layer and call: `merge` folds everything into the weights, which is free from then on, and is
the way for nets that were compiled or exported, since those do not look for hooks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.core.errors import ShapeMismatch, UsageError, explain
from undiffuse.networks.lora import Layer, Term

SHOWN = 8


class Added:
    """What is added to one net: any number of named sets of terms, each with a weight of its own.

    Args:
        net: in it, linear layers and convolutions may be given terms.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.merged = False
        self._beside: dict[str, _Beside] = {}
        self._weights: dict[str, float] = {}

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every set that is attached, by name."""
        return dict(self._weights)

    def attach(self, name: str, terms: Mapping[str, Term], weight: float = 1.0) -> None:
        """Put terms, by the names of their layers, beside the net.

        Raises:
            UsageError: when the name is taken.
            ShapeMismatch: when a layer is not there, or has another shape; then nothing is attached.
        """
        if name in self._weights:
            raise UsageError(explain(f"{name!r} is attached already", "a name is taken once", "change its weight instead"))
        check_fit(self.net, terms)
        self._weights[name] = weight
        for path, term in terms.items():
            if path not in self._beside:
                self._beside[path] = _Beside(self.net.get_submodule(path))
            self._beside[path].terms[name] = term
        self._settle(name)

    def set_weight(self, name: str, weight: float) -> None:
        """Let a set count more or less; 0 is as if it were not there, below 0 it counts the other way.

        Raises:
            UsageError: when nothing of this name is attached.
        """
        self._require(name)
        self._weights[name] = weight
        self._settle(name)

    def detach(self, name: str) -> None:
        """Take a set away.

        Raises:
            UsageError: when nothing of this name is attached.
        """
        self.set_weight(name, 0.0)
        del self._weights[name]
        for path, beside in list(self._beside.items()):
            beside.drop(name)
            if not beside.terms:
                beside.close()
                del self._beside[path]

    def merge(self) -> None:
        """Fold everything into the weights: calls cost nothing more. The originals are kept, in main memory."""
        self.merged = True
        for beside in self._beside.values():
            beside.fold()

    def unmerge(self) -> None:
        """Give every layer its original weight back, to the bit; the terms stay attached, beside it."""
        self.merged = False
        for beside in self._beside.values():
            beside.unfold()

    def _settle(self, name: str) -> None:
        """Let the layers know the weight of this set."""
        for beside in self._beside.values():
            if name in beside.terms:
                beside.weights[name] = self._weights[name]
                if self.merged:
                    beside.fold()

    def _require(self, name: str) -> None:
        if name not in self._weights:
            there = ", ".join(map(repr, self._weights)) or "nothing"
            raise UsageError(explain(f"{name!r} is not attached", f"there is {there}"))


def check_fit(net: nn.Module, terms: Mapping[str, Term]) -> None:
    """Check that every term belongs to a layer of the net and has its shape.

    Raises:
        ShapeMismatch: listing those that do not.
    """
    layers = {path: module for path, module in net.named_modules() if isinstance(module, Layer)}
    wrong = []
    for path, term in terms.items():
        if path not in layers:
            wrong.append(f"{path} (no such layer)")
            continue
        weight = layers[path].weight
        try:
            term.to("meta").change(torch.empty_like(weight, device="meta"))  # shapes only
        except (RuntimeError, IndexError):
            wrong.append(f"{path} {tuple(weight.shape)}")
    if wrong:
        shown = ", ".join(wrong[:SHOWN]) + (f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
        given = f"{len(wrong)} of {len(terms)} added terms do not fit: {shown}"
        raise ShapeMismatch(explain(given, "each needs a layer of its name and shape"))


class _Beside:
    """The terms of one layer, as its forward hook."""

    def __init__(self, layer: Any) -> None:
        self.layer: Layer = layer
        self.terms: dict[str, Term] = {}
        self.weights: dict[str, float] = {}
        self._original: Tensor | None = None
        self._ready: dict[str, Term] = {}
        self._form: tuple[torch.device, torch.dtype] | None = None
        self._handle = layer.register_forward_hook(self, prepend=True)  # before weights go back to rest

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self._original is not None:
            return output
        x = args[0]
        for name, weight in self.weights.items():
            if weight:
                output = output + weight * self._in_form_of(x, name).added(x, self.layer).to(output.dtype)
        return output

    def fold(self) -> None:
        """Put the terms into the weight, starting from the original."""
        if self._original is None:
            self._original = self.layer.weight.detach().to("cpu", copy=True)
        original = self._original.to(self.layer.weight.device)
        exact = torch.promote_types(original.dtype, torch.float32)
        total = original.to(exact)
        for name, weight in self.weights.items():
            if weight:
                total = total + weight * self.terms[name].to(original.device, exact).change(original.to(exact))
        self._write(total)

    def unfold(self) -> None:
        if self._original is not None:
            self._write(self._original)
            self._original = None

    def drop(self, name: str) -> None:
        for known in (self.terms, self.weights, self._ready):
            known.pop(name, None)

    def close(self) -> None:
        """Leave the layer as it was found."""
        self.unfold()
        self._handle.remove()

    def _write(self, weight: Tensor) -> None:
        with torch.no_grad():
            self.layer.weight.copy_(weight)  # in place: compiled code and optimisers hold this very tensor

    def _in_form_of(self, x: Tensor, name: str) -> Term:
        """The term where `x` is and in its precision; the copy is kept for the next call."""
        if self._form != (x.device, x.dtype):
            self._ready, self._form = {}, (x.device, x.dtype)
        if name not in self._ready:
            with torch.inference_mode(False):  # kept for calls that may want gradients
                self._ready[name] = self.terms[name].to(x.device, x.dtype)
        return self._ready[name]
