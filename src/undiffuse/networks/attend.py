"""softmax(Q K^T / sqrt(d)) V, by the way that suits the machine: PyTorch's kernel, or some rows of Q at a time."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

MANY = 2**16  # logits a head from which on plain products beat the kernel of a CPU in half precision
AT_ONCE = 2**21  # logits made at a time: they stay in its cache
REACH = 60.0  # logits up to which e^x can be summed in bfloat16 as it is, with no row's greatest taken away before
WIDEST = 256  # numbers a head up to which kernels of GPUs hold no logits
LOGITS = 2**28  # numbers of them that are held at once beyond that


def attend(query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None = None) -> Tensor:
    """Attention (..., N, d) of queries (..., N, d) to keys and values (..., M, d); `keep` is true where a key counts.

    On CPUs PyTorch's kernel is slow in half precision, where products of matrices are quick; so there a long row of
    logits is made by products, some queries at a time. On GPUs heads wider than 256 have no kernel that holds no logits,
    so it is never given so many queries that they would need a gigabyte.
    """
    if torch.is_grad_enabled() or keep is not None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=keep)
    count, keys = query.shape[-2], key.shape[-2]
    if query.device.type == "cpu":
        if query.dtype in (torch.bfloat16, torch.float16) and count * keys >= MANY and not torch.compiler.is_compiling():
            return in_rows(query, key, value)
    elif query.shape[-1] > WIDEST and query[..., 0].numel() * keys > LOGITS:
        rows = max(1, LOGITS * count // (query[..., 0].numel() * keys))
        parts = (F.scaled_dot_product_attention(part, key, value) for part in query.split(rows, dim=-2))
        return torch.cat(list(parts), dim=-2)
    return F.scaled_dot_product_attention(query, key, value)


def in_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same by plain products, one head and some of its queries at a time.

    The values get a last column of ones, whose product is the sum of the weights, by which a row is divided at the end.
    So weights may be e^x as it is where that cannot overflow, which is most of the time a softmax takes.
    """
    count, keys, width = query.shape[-2], key.shape[-2], value.shape[-1]
    scaled = (query * query.shape[-1] ** -0.5).contiguous()  # (..., N, d)
    ones = value.new_ones(*value.shape[:-1], 1)
    heads = [part.reshape(-1, *part.shape[-2:]) for part in (scaled, key, torch.cat([value, ones], dim=-1))]
    plain = query.dtype == torch.bfloat16 and _reach(scaled, key) <= REACH
    out = torch.empty_like(query)  # laid out as the queries are, so that heads that lay side by side still do
    rows = min(count, max(1, AT_ONCE // keys))
    logits, mixed = query.new_empty(rows, keys), query.new_empty(count, width + 1)
    for head, q, k, v in zip(product(*map(range, query.shape[:-2])), *heads, strict=True):
        for first in range(0, count, rows):
            some = q[first : first + rows]
            weights = torch.mm(some, k.t(), out=logits[: len(some)])  # (rows, M)
            weights = torch.exp(weights, out=weights) if plain else torch.softmax(weights, dim=-1, out=weights)
            torch.mm(weights, v, out=mixed[first : first + rows])
        torch.div(mixed[:, :width], mixed[:, width:], out=out[head])
    return out


def _reach(query: Tensor, key: Tensor) -> float:
    """What no logit of Q K^T exceeds, by Cauchy and Schwarz: the longest query times the longest key of a head."""
    longest = [torch.linalg.vector_norm(part, dim=-1, dtype=torch.float32).amax(dim=-1) for part in (query, key)]
    return (longest[0] * longest[1]).max().item()
