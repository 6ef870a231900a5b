"""`Conditioning`: what steers a denoiser, with a named slot for each way in.

| slot         | shape        | how the net uses it                                   |
|--------------|--------------|-------------------------------------------------------|
| `vector`     | (B, D)       | added to the time embedding                           |
| `tokens`     | (B, N, D)    | cross-attention                                       |
| `token_mask` | (B, N) bool  | which tokens count; None means all of them            |
| `spatial`    | (B, C, H, W) | concatenated to the latent on the channel axis        |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from undiffuse.core.errors import SpecError, explain


@dataclass(frozen=True)
class Conditioning:
    """A frozen record of named slots; an empty one conditions on nothing."""

    vector: Tensor | None = None
    tokens: Tensor | None = None
    token_mask: Tensor | None = None
    spatial: Tensor | None = None

    def slots(self) -> dict[str, Tensor]:
        """The filled slots by name."""
        named = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in named if value is not None}

    def __len__(self) -> int:
        """Batch size; 0 when every slot is empty."""
        return next((len(value) for value in self.slots().values()), 0)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={tuple(value.shape)}" for name, value in self.slots().items())
        return f"Conditioning({inside})"

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """Move every slot; `dtype` leaves the boolean mask alone."""
        moved = {}
        for name, value in self.slots().items():
            moved[name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        return replace(self, **moved)

    def select(self, rows: Sequence[int] | Tensor | slice) -> Conditioning:
        """The rows of the batch at these indices."""
        picked: slice | Tensor
        if isinstance(rows, slice):
            picked = rows
        else:
            device = next((v.device for v in self.slots().values()), None)
            picked = torch.as_tensor(rows, dtype=torch.long, device=device)
        return replace(self, **{name: value[picked] for name, value in self.slots().items()})

    def where(self, keep: Tensor, other: Conditioning) -> Conditioning:
        """Row by row: this one where `keep` (B,) is true, `other` elsewhere (conditioning dropout)."""
        mixed = {}
        for name, value in self.slots().items():
            mask = keep.to(value.device).view(-1, *([1] * (value.ndim - 1)))
            mixed[name] = torch.where(mask, value, getattr(other, name))
        return replace(self, **mixed)

    @staticmethod
    def cat(parts: Iterable[Conditioning]) -> Conditioning:
        """Join along the batch. All parts must fill the same slots; shorter token rows are padded.

        Raises:
            SpecError: when the parts fill different slots.
        """
        parts = list(parts)
        names = [tuple(part.slots()) for part in parts]
        filled = set(names[0]) if names else set()
        for other in names[1:]:
            if set(other) - {"token_mask"} != filled - {"token_mask"}:
                raise SpecError(
                    explain(
                        f"conditionings with slots {sorted(filled)} and {sorted(other)} cannot be joined",
                        "every part must fill the same slots",
                        "build them with one conditioner",
                    )
                )
            filled |= set(other)
        joined: dict[str, Tensor] = {}
        for name in ("vector", "spatial"):
            if name in filled:
                joined[name] = torch.cat([getattr(part, name) for part in parts])
        if "tokens" in filled:
            padded = [_pad_tokens(part, max(p.tokens.shape[1] for p in parts)) for part in parts]  # type: ignore[union-attr]
            joined["tokens"] = torch.cat([tokens for tokens, _ in padded])
            if "token_mask" in filled or len({p.tokens.shape[1] for p in parts}) > 1:  # type: ignore[union-attr]
                joined["token_mask"] = torch.cat([mask for _, mask in padded])
        return Conditioning(**joined)


def _pad_tokens(part: Conditioning, length: int) -> tuple[Tensor, Tensor]:
    tokens = part.tokens
    assert tokens is not None
    batch, count, width = tokens.shape
    mask = part.token_mask
    if mask is None:
        mask = torch.ones(batch, count, dtype=torch.bool, device=tokens.device)
    if count < length:
        tokens = torch.cat([tokens, tokens.new_zeros(batch, length - count, width)], dim=1)
        mask = torch.cat([mask, mask.new_zeros(batch, length - count)], dim=1)
    return tokens, mask
