"""Gradients of the text encoder and the label table against finite differences in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.core.random import normal
from undiffuse.networks.text.bert import BertBlock, BertEncoder

MASK = torch.tensor([[True, True, True], [True, True, False]])


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    module.double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(normal(parameter.shape, "gradients", name) * 0.5)
    return module


def check_parameters(module: torch.nn.Module, *inputs: object) -> None:
    names = [name for name, _ in module.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]

    def run(*given: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, given, strict=True)), inputs)

    assert torch.autograd.gradcheck(run, values)


def test_bert_block_input() -> None:
    block = randomised(BertBlock(width=4, heads=2, hidden=3, eps=1e-12))
    x = normal((2, 3, 4), "gradients", "x").double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: block(x, MASK[:, None, None, :]), (x,))


def test_bert_encoder_parameters() -> None:
    encoder = randomised(BertEncoder(vocabulary=5, width=4, layers=1, heads=2, hidden=3, positions=3))
    ids = torch.tensor([[1, 2, 4], [3, 0, 0]])
    check_parameters(encoder, ids, MASK)


def test_masked_tokens_get_no_gradient() -> None:
    encoder = BertEncoder(vocabulary=5, width=4, layers=2, heads=2, hidden=3, positions=3)
    states = encoder(torch.tensor([[1, 2, 4]]), torch.tensor([[True, True, False]]))
    (states[:, :2] * normal((1, 2, 4), "gradients", "weights")).sum().backward()
    gradient = encoder.words.weight.grad
    assert gradient is not None
    assert gradient[4].abs().max() == 0
    assert gradient[1].abs().max() > 0


def test_label_table() -> None:
    labels = LabelConditioner(["cat", "fox"], width=3).double()

    def run(table: Tensor) -> Tensor:
        rows = [{"label": "fox"}, {}, {"label": "fox"}]
        return functional_call(labels, {"table.weight": table}, (rows,)).vector

    assert torch.autograd.gradcheck(run, (labels.table.weight.detach().clone().requires_grad_(),))
