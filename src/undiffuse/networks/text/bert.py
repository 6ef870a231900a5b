"""`BertEncoder`: the BERT transformer (Devlin et al. 2019, arXiv 1810.04805), from token ids to token states.

Sentence encoders such as all-MiniLM-L6-v2 are sizes of it. Every block is post-norm: add, then normalise.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from undiffuse.core.errors import MissingKeys, SpecError, explain

# Our module names and those of a Hugging Face `BertModel`: first outside the blocks, then inside
# `blocks.I` and `encoder.layer.I`.
EMBEDDING_KEYS = {
    "words": "embeddings.word_embeddings",
    "places": "embeddings.position_embeddings",
    "kinds": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
BLOCK_KEYS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "merge": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm": "output.LayerNorm",
}
# Buffers, and the pooler, which sentence encoders leave aside.
UNUSED_KEYS = {"embeddings.position_ids", "embeddings.token_type_ids", "pooler.dense.weight", "pooler.dense.bias"}


class BertBlock(nn.Module):
    """Self-attention and a two-layer perceptron with exact GELU, each added to its input and normalised."""

    def __init__(self, *, width: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.merge = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention_norm(x + self.attend(x, mask))  # (B, N, D)
        return self.norm(x + self.narrow(F.gelu(self.widen(x))))  # (B, N, D)

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """Self-attention of the states (B, N, D) to the positions where `mask` (B, 1, 1, N) is true."""
        query, key, value = (self._split(project(x)) for project in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # (B, heads, N, D / heads)
        return self.merge(mixed.transpose(1, 2).flatten(2))  # (B, N, D)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)


class BertEncoder(nn.Module):
    """Token ids to token states.

    Args:
        vocabulary: number of tokens known.
        width: features of a state.
        layers: number of blocks.
        heads: attention heads of a block; they share the width.
        hidden: features inside the perceptron.
        positions: the longest text in tokens.
        kinds: rows of the segment table; a caption is always kind 0.
        eps: added to the variance in every normalisation.

    Raises:
        SpecError: when the heads do not divide the width.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        positions: int,
        kinds: int = 2,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        if width % heads:
            raise SpecError(explain(f"width {width} with {heads} heads", "the heads must divide the width"))
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(positions, width)
        self.kinds = nn.Embedding(kinds, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.blocks = nn.ModuleList(BertBlock(width=width, heads=heads, hidden=hidden, eps=eps) for _ in range(layers))

    @property
    def width(self) -> int:
        """Features of a state."""
        return self.words.embedding_dim

    @property
    def positions(self) -> int:
        """The longest text in tokens."""
        return self.places.num_embeddings

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States (B, N, D) of the tokens `ids` (B, N); `mask` (B, N) is true where a token counts."""
        x = self.words(ids) + self.places.weight[: ids.shape[1]] + self.kinds.weight[0]  # (B, N, D)
        x = self.norm(x)
        attended = mask.bool()[:, None, None, :]  # (B, 1, 1, N)
        for block in self.blocks:
            x = block(x, attended)
        return x


def keep_words(encoder: BertEncoder, ids: Sequence[int]) -> BertEncoder:
    """A copy of the encoder whose word table holds only the rows `ids`, in this order."""
    pruned = copy.deepcopy(encoder)
    pruned.words = nn.Embedding.from_pretrained(encoder.words.weight.detach()[list(ids)], freeze=False)
    return pruned


def bert_from_huggingface(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a Hugging Face `BertModel` to those of `BertEncoder`, by the tables above; the pooler is left out.

    Raises:
        MissingKeys: listing the tensors that are missing and those that the encoder has no place for.
    """
    layers = {int(name.split(".")[2]) for name in state_dict if name.startswith("encoder.layer.")}
    names = _key_map(len(layers))
    missing = sorted(set(names) - set(state_dict))
    unknown = sorted(set(state_dict) - set(names) - UNUSED_KEYS)
    if missing or unknown:
        found = [f"{what}: {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys]
        raise MissingKeys(explain("; ".join(found), "the tensors of a Hugging Face BertModel are expected"))
    return {ours: state_dict[theirs] for theirs, ours in names.items()}


def _key_map(layers: int) -> dict[str, str]:
    modules = {theirs: ours for ours, theirs in EMBEDDING_KEYS.items()}
    for i in range(layers):
        modules |= {f"encoder.layer.{i}.{theirs}": f"blocks.{i}.{ours}" for ours, theirs in BLOCK_KEYS.items()}
    tables = ("words", "places", "kinds")
    return {
        f"{theirs}.{kind}": f"{ours}.{kind}"
        for theirs, ours in modules.items()
        for kind in (("weight",) if ours in tables else ("weight", "bias"))
    }
