"""Learned words (textual inversion, Gal et al. 2022): names in a prompt that stand for vectors of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from undiffuse.core.errors import ShapeMismatch, explain

BASES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 1280: "Stable Diffusion XL"}


@dataclass(frozen=True, eq=False)
class LearnedWord:
    """A word with vectors of its own, which stand in the place of those of its letters.

    `vectors` are (N, D), one entry for every text encoder that it was learned for; each stands for N tokens. `path` is
    that of its file, `hash` SHA-256 of it.
    """

    name: str
    vectors: tuple[Tensor, ...]
    path: str = ""
    hash: str = ""
    header: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def length(self) -> int:
        """How many tokens of a prompt it takes."""
        return len(self.vectors[0])

    def for_widths(self, widths: Sequence[int]) -> tuple[Tensor, ...]:
        """Its vectors in the order of text encoders that read tokens of these widths.

        Raises:
            ShapeMismatch: when an encoder gets none, or some are left over.
        """
        left = list(self.vectors)
        found = []
        for width in widths:
            vector = next((vector for vector in left if vector.shape[1] == width), None)
            if vector is not None:
                left = [other for other in left if other is not vector]
                found.append(vector)
        if left or len(found) < len(widths):
            own = " and ".join(str(vector.shape[1]) for vector in self.vectors)
            base = f", as of {BASES[widest]}" if (widest := max(v.shape[1] for v in self.vectors)) in BASES else ""
            needed = " and ".join(map(str, widths)) or "no words"
            given = f"the learned word {self.name!r} has vectors of {own} numbers{base}"
            raise ShapeMismatch(explain(given, f"this model's text encoders read {needed}", "use one made for this model"))
        return tuple(found)


class NewWords:
    """Rows behind the last of a text encoder's table of words, for ids from its length on; the table is not touched.

    Args:
        table: from ids to vectors.
    """

    def __init__(self, table: nn.Embedding) -> None:
        self.table = table
        self.ids: dict[str, tuple[int, ...]] = {}
        self._rows = table.weight.new_zeros(1, table.embedding_dim, device="cpu", dtype=torch.float32)  # of no word

    def learn(self, name: str, vectors: Tensor) -> tuple[int, ...]:
        """Give a word its vectors (N, D), and get the N ids that stand for it; a word of this name is replaced.

        Raises:
            ShapeMismatch: when they are of another width than the table's.
        """
        width = self.table.embedding_dim
        if vectors.ndim != 2 or vectors.shape[1] != width:
            given = f"vectors {tuple(vectors.shape)} for the learned word {name!r}"
            raise ShapeMismatch(explain(given, f"(N, {width}) is needed"))
        first = self.table.num_embeddings + len(self._rows) - 1
        self._rows = torch.cat([self._rows, vectors.detach().to(self._rows)])
        self.ids[name] = tuple(range(first, first + len(vectors)))
        return self.ids[name]

    def plain(self, ids: Tensor) -> Tensor:
        """The ids with 0 in the place of new words."""
        return ids.masked_fill(ids >= self.table.num_embeddings, 0)

    def embed(self, ids: Tensor) -> Tensor:
        """The vectors (..., D) of ids (...): the table's, and those of new words."""
        if not self.ids:
            return self.table(ids)
        row = (ids - self.table.num_embeddings + 1).clamp_min(0)
        known = self.table(self.plain(ids))  # (..., D)
        self._rows = self._rows.to(ids.device)
        return torch.where((row > 0)[..., None], self._rows[row].to(known.dtype), known)


def split_at(text: str, names: Iterable[str]) -> list[str]:
    """A text cut at these names: plain pieces at even places, names, as they are in `names`, at odd ones.

    A name counts where it stands as a word of its own, whatever the case of its letters, also behind "embedding:".
    Where several would fit the longest does.
    """
    longest_first = sorted(names, key=len, reverse=True)
    found = "|".join(f"({_own_word(name)})" for name in longest_first)
    pieces, end = [], 0
    for match in re.finditer(rf"(?:\bembedding:)?(?:{found})", text, re.IGNORECASE) if found else ():
        pieces += [text[end : match.start()], longest_first[(match.lastindex or 0) - 1]]
        end = match.end()
    return [*pieces, text[end:]]


def _own_word(name: str) -> str:
    """A pattern for the name; where it ends in a letter or digit no other follows, and none goes before its first."""
    before = r"(?<!\w)" if re.match(r"\w", name) else ""
    return before + re.escape(name) + (r"(?!\w)" if re.search(r"\w$", name) else "")
