"""softmax(Q K^T / sqrt(d)) V, by the way that suits the machine: PyTorch's kernel, or some rows of Q at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MANY = 1024  # keys from which on plain products of a few rows beat the kernel of a CPU in half precision
ROWS = 256  # rows of Q at a time: their logits stay in its cache
WIDEST = 256  # numbers a head up to which kernels of GPUs hold no logits
LOGITS = 2**28  # numbers of them that are held at once beyond that


def attend(query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None = None) -> Tensor:
    """Attention (..., N, d) of queries (..., N, d) to keys and values (..., M, d); `keep` is true where a key counts.

    On CPUs PyTorch's kernel is slow in half precision, where products of matrices are quick; so many keys are attended to
    by 256 queries at a time. On GPUs heads wider than 256 have no kernel that holds no logits, so it is never given so
    many queries that they would need a gigabyte.
    """
    if torch.is_grad_enabled() or keep is not None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=keep)
    count, keys = query.shape[-2], key.shape[-2]
    if query.device.type == "cpu":
        if query.dtype != torch.float32 and query.dtype != torch.float64 and keys >= MANY:
            return in_rows(query, key, value)
    elif query.shape[-1] > WIDEST and query[..., 0].numel() * keys > LOGITS:
        rows = max(1, LOGITS * count // (query[..., 0].numel() * keys))
        parts = (F.scaled_dot_product_attention(part, key, value) for part in query.split(rows, dim=-2))
        return torch.cat(list(parts), dim=-2)
    return F.scaled_dot_product_attention(query, key, value)


def in_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same by plain products, one head and `ROWS` queries at a time."""
    scaled = query * query.shape[-1] ** -0.5
    out = torch.empty_like(query)
    heads = [part.reshape(-1, *part.shape[-2:]) for part in (scaled, key, value)]
    found = out.view(-1, *out.shape[-2:])
    for index, (q, k, v) in enumerate(zip(*heads, strict=True)):
        keys = k.t().contiguous()
        for first in range(0, len(q), ROWS):
            weights = torch.softmax(q[first : first + ROWS] @ keys, dim=-1)
            torch.mm(weights, v, out=found[index, first : first + ROWS])
    return out
