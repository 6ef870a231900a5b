"""`LatentDiffusion`: codec, denoiser, conditioner and spec. A plain record; functions around it do the work."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from torch import nn

from undiffuse.conditioners.combined import Conditioner
from undiffuse.diffusion.schedule import Schedule
from undiffuse.model.adapters import Adapters
from undiffuse.model.codec import Codec
from undiffuse.model.denoiser import Denoiser
from undiffuse.model.spec import ModelSpec
from undiffuse.networks.resting import rest, wake


@dataclass(frozen=True)
class LatentDiffusion:
    """The three parts of a latent diffusion model and the spec that they were built from; `adapters` is what is added to them.

    Loading and saving live in `checkpoints`, drawing in `generation`, training in `training`.
    """

    codec: Codec
    denoiser: Denoiser
    conditioner: Conditioner
    spec: ModelSpec
    adapters: Adapters = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapters", Adapters(self.denoiser, self.conditioner))

    @property
    def schedule(self) -> Schedule:
        """The noise schedule that the denoiser was trained on."""
        return self.denoiser.schedule

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.codec.device

    def parts(self) -> dict[str, nn.Module]:
        """The nets by the name of the file that each is stored in."""
        parts: dict[str, nn.Module] = {"autoencoder": self.codec.autoencoder, "denoiser": self.denoiser.network}
        if any(True for _ in self.conditioner.parameters()):
            parts["conditioner"] = self.conditioner
        if self.codec.previewer is not None:
            parts["preview"] = self.codec.previewer
        return parts

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LatentDiffusion:
        """Move every part in place, and to `dtype` denoiser and codec; returns the record itself."""
        for module in (self.codec, self.denoiser, self.conditioner):
            wake(module)
            module.to(device=device)
        if dtype is not None:
            for net in (self.codec.autoencoder, self.codec.previewer, self.denoiser.network):
                if net is not None:
                    net.to(dtype=dtype)
        return self

    def rest(self, device: torch.device, dtype: torch.dtype) -> LatentDiffusion:
        """Leave all weights where and as they are; denoiser and codec work on `device` in `dtype`, a layer at a time.

        The conditioner works where it rests. Returns the record itself.
        """
        for module in (self.codec, self.denoiser):
            wake(module)
            rest(module, device, dtype)
        return self

    def eval(self) -> LatentDiffusion:
        """Switch every part to inference: no dropout, no gradients."""
        for module in (self.codec, self.denoiser, self.conditioner):
            module.eval().requires_grad_(False)
        return self

    @property
    def fingerprint(self) -> str:
        """Ten hex digits of SHA-256 over the spec, every weight and thesauri, as stored in pictures as the model hash.

        The decoder for previews is not counted: no picture depends on it. Nor are values that a spec leaves at their
        defaults, so that a model keeps its fingerprint when a later version knows more of them.
        """
        spec = self.spec.model_dump_json(exclude={"codec": {"preview"}}, exclude_defaults=True)
        digest = hashlib.sha256(" ".join([spec, *(part.kind for part in self.spec.conditioners)]).encode())
        for part in (part for kind, part in self.parts().items() if kind != "preview"):
            for name, tensor in part.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        for thesaurus in (part.thesaurus for part in self.conditioner.parts):
            if thesaurus is not None:
                digest.update(repr(sorted(thesaurus.meant.items())).encode())
        return digest.hexdigest()[:10]

    def __repr__(self) -> str:
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in self.parts().items()}
        sizes = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in counts.items())
        kinds = ", ".join(part.kind for part in self.spec.conditioners) or "nothing"
        return (
            f"LatentDiffusion({self.spec.name!r}, {self.spec.size}x{self.spec.size}, f={self.codec.factor}, "
            f"{self.codec.channels} channels, {self.spec.prediction} on {self.spec.schedule.kind}; "
            f"conditioned on {kinds}; parameters: {sizes})"
        )
