"""`Conditioner`: all conditioner parts of a model as one, from rows of raw fields to one `Conditioning`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.conditioners.base import ConditionerPart, Fields, Sight, Size, Word
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain


class Conditioner(nn.Module):
    """Merges its parts: vectors join on features, tokens and their masks on the token axis, maps on channels.

    With no parts it conditions on nothing.

    Raises:
        SpecError: when two parts deliver tokens of different widths.
    """

    def __init__(self, parts: Iterable[ConditionerPart] = ()) -> None:
        super().__init__()
        self.parts: Sequence[ConditionerPart] = nn.ModuleList(parts)  # type: ignore[assignment]
        widths = {part.token_width for part in self.parts if part.token_width}
        if len(widths) > 1:
            raise SpecError(explain(f"tokens of widths {sorted(widths)}", "all parts must deliver tokens of one width"))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that some part reads, in the order of the parts."""
        return tuple(dict.fromkeys(field for part in self.parts for field in part.fields))

    @property
    def token_width(self) -> int:
        """Features of a token; 0 without tokens."""
        return max((part.token_width for part in self.parts), default=0)

    @property
    def vector_width(self) -> int:
        """Features of the joined vector; 0 without one."""
        return sum(part.vector_width for part in self.parts)

    @property
    def spatial_channels(self) -> int:
        """Channels of the joined map; 0 without one."""
        return sum(part.spatial_channels for part in self.parts)

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The conditioning of these rows; readings that no part knows are passed over.

        Args:
            rows: readings, as the parts' `read` gives them.
            size: height and width of the latent, which maps of rows that have none need.
        """
        return merge([part(rows, size) for part in self.parts])

    def null(self, count: int, size: Size | None = None) -> Conditioning:
        """The conditioning of `count` rows that say nothing."""
        return merge([part.null(count, size) for part in self.parts])

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """Readings of everything that was given, row by row.

        Raises:
            DataError: when something given is of no use.
        """
        by_part = [part.read(given, sight) for part in self.parts]
        return [{name: value for row in rows for name, value in row.items()} for rows in zip(*by_part, strict=True)] or [
            {} for _ in given
        ]

    def without(self, row: Fields, parts: Iterable[ConditionerPart]) -> dict[str, Any]:
        """A row of readings that says nothing to these parts: dropout, and what guidance steers away from."""
        silent = {name for part in parts for name in part.readings}
        return {name: value for name, value in row.items() if name not in silent}

    def forget(self) -> None:
        """Have every part drop what it remembers; needed after weights were changed by hand."""
        for part in self.parts:
            part.forget()

    def words(self, row: Fields) -> list[Word]:
        """What the tokens of this row of readings stand for, in the places that they have among those of all parts."""
        found: list[Word] = []
        first = 0
        for part in self.parts:
            if part.token_width:
                found += [Word(text, tuple(first + place for place in places)) for text, places in part.words(row)]
                tokens = part([row]).tokens
                first += 0 if tokens is None else tokens.shape[1]
        return found

    def require(self, fields: Iterable[str]) -> None:
        """Check that the model reads these fields.

        Raises:
            SpecError: naming the fields that it has not learned and those that it reads.
        """
        strange = [repr(field) for field in fields if field not in self.fields]
        if strange:
            reads = ", ".join(self.fields) or "nothing"
            raise SpecError(explain(f"this model has not learned {', '.join(strange)}", f"it reads: {reads}"))


def merge(conds: Sequence[Conditioning]) -> Conditioning:
    """One conditioning of several for the same rows: vectors joined on features, tokens on the token axis, maps on channels."""
    with_tokens = [cond for cond in conds if cond.tokens is not None]
    masked = any(cond.token_mask is not None for cond in with_tokens)
    return Conditioning(
        vector=_join([cond.vector for cond in conds], dim=1),
        tokens=_join([cond.tokens for cond in conds], dim=1),
        token_mask=_join([_mask(cond) for cond in with_tokens], dim=1) if masked else None,
        spatial=_join([cond.spatial for cond in conds], dim=1),
    )


def _join(values: Iterable[Tensor | None], dim: int) -> Tensor | None:
    filled = [value for value in values if value is not None]
    return torch.cat(filled, dim) if filled else None


def _mask(cond: Conditioning) -> Tensor | None:
    if cond.token_mask is not None or cond.tokens is None:
        return cond.token_mask
    return torch.ones(cond.tokens.shape[:2], dtype=torch.bool, device=cond.tokens.device)
