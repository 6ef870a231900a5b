"""Stage one: an autoencoder that reconstructs, keeps latents in bounds, and may be judged by features and a critic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch._functorch import config as functorch

from undiffuse.checkpoints.native import save_codec
from undiffuse.core.pictures import grid_image, to_images
from undiffuse.core.random import normal, numpy_stream
from undiffuse.data.dataset import Pictures
from undiffuse.data.render import render
from undiffuse.data.sampler import slot_index
from undiffuse.model.codec import Codec
from undiffuse.model.spec import AutoencoderSpec, CodecSpec, VQSpec
from undiffuse.networks.autoencoder import ConvolutionalAutoencoder
from undiffuse.networks.discriminator import Discriminator
from undiffuse.networks.perceptual import PerceptualDistance
from undiffuse.networks.quantizer import VQAutoencoder, code_use
from undiffuse.training.objectives.base import Objective, few_pictures
from undiffuse.training.recipe import AutoencoderObjective as Terms
from undiffuse.training.recipe import Recipe

CRITIC = "discriminator"
PREVIEWS = 8


@dataclass(frozen=True)
class Crops:
    """Crops of rendered pictures (B, 3, c, c), and the noise that samples or disturbs their latents (B, C, c/f, c/f)."""

    pixels: Tensor
    noise: Tensor


class AutoencoderTraining(Objective[Crops]):
    """Reconstruction + KL or codes, with optional perceptual and adversarial terms (Rombach et al. 2022, eq. 25).

    All terms are means over pixels or latent elements, so weights mean the same at every crop size.
    """

    def __init__(
        self,
        recipe: Recipe,
        spec: AutoencoderSpec | VQSpec,
        autoencoder: ConvolutionalAutoencoder,
        pictures: Pictures,
        previews: Pictures,
        perceptual: PerceptualDistance | None = None,
        critic: Discriminator | None = None,
    ) -> None:
        terms = recipe.objective
        assert isinstance(terms, Terms)
        self.recipe = recipe
        self.spec = spec
        self.terms = terms
        self.autoencoder = autoencoder
        self.pictures = pictures
        self.previews = previews
        self.perceptual = perceptual
        self.device = next(autoencoder.parameters()).device
        self.critic = critic
        if terms.learn == "decoder":
            autoencoder.freeze_encoder()
        players: dict[str, nn.Module] = {"autoencoder": autoencoder}
        self.players = players if critic is None else {**players, CRITIC: critic}
        self._remade: Tensor | None = None

    def batch(self, step: int, slots: range) -> Crops:
        """Random crops of rendered pictures, a stream of numbers for every slot."""
        seed, size = self.recipe.run.seed, self.terms.crop
        crops, noise = [], []
        latent = (self.spec.latent_channels, size // self.spec.factor, size // self.spec.factor)
        for slot in slots:
            rng = numpy_stream("autoencoder", seed, step, slot)
            _, index = slot_index(seed, step, slot, self.recipe.run.batch, len(self.pictures.rows))
            pixels = render(self.pictures, index, self.recipe.data.render, rng).pixels
            top, left = (int(rng.integers(0, side - size + 1)) for side in pixels.shape[1:])
            crops.append(pixels[:, top : top + size, left : left + size])
            share = self.terms.latent_noise * float(rng.random()) if self.terms.learn == "decoder" else 1.0
            noise.append(share * normal(latent, "posterior", seed, step, slot))
        return Crops(torch.stack(crops), torch.stack(noise))

    def loss(self, player: str, batch: Crops, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The autoencoder's weighted sum of terms, or the critic's hinge loss."""
        x = batch.pixels.to(self.device, memory_format=torch.channels_last)
        if player == CRITIC:
            return self._critic_loss(x, step)
        terms = self.terms
        remake = BOUNDS[self.spec.kind] if terms.learn == "both" else _decoded_alone
        remade, bounds, values = remake(self.autoencoder, x, batch.noise.to(self.device), terms)
        self._remade = remade.detach()
        difference = remade - x
        values |= {
            "l1": difference.abs().mean(),
            "l2": difference.square().mean(),
            "gradient": gradient_loss(difference),
        }
        total = terms.l1 * values["l1"] + terms.l2 * values["l2"]
        total = total + terms.gradient * values["gradient"] + bounds
        if self.perceptual is not None and terms.perceptual is not None:
            values["perceptual"] = self.perceptual(remade, x).mean()
            total = total + terms.perceptual.weight * values["perceptual"]
        if (share := self._ramp(step)) > 0:
            values["adversarial"] = self._fooling(remade, total)
            total = total + share * values["adversarial"]
        values["psnr"] = -10 * torch.log10(values["l2"].detach() / 4)
        return total, {"loss": total, **values}

    def _ramp(self, step: int) -> float:
        """Share of the adversarial weight: 0 up to `start`, then linearly to 1.

        The original switches an untrained critic on at once, which its users saw as a drop in quality; here
        the critic learns alone for the first half of the ramp.
        """
        spec = self.terms.adversarial
        if spec is None or step < spec.start:
            return 0.0
        return min(1.0, max(0.0, 2 * (step - spec.start) / spec.ramp - 1))

    def _fooling(self, remade: Tensor, total: Tensor) -> Tensor:
        """Generator term with the adaptive weight of Esser et al. 2021, eq. 7, at the decoder's last layer."""
        spec = self.terms.adversarial
        assert self.critic is not None and spec is not None
        self.critic.requires_grad_(False)
        fooling = -self.critic(remade).float().mean()
        self.critic.requires_grad_(True)
        last = self.autoencoder.decoder.last.weight
        own = self.workers.average(torch.autograd.grad(total, last, retain_graph=True)[0]).norm()
        theirs = self.workers.average(torch.autograd.grad(fooling, last, retain_graph=True)[0]).norm()
        return spec.weight * (own / (theirs + 1e-4)).clamp(0, 1e4).detach() * fooling

    def _critic_loss(self, x: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss of the critic (Lim & Ye 2017); zero before its start."""
        spec = self.terms.adversarial
        assert self.critic is not None and spec is not None and self._remade is not None
        real, made = self.critic(x).float(), self.critic(self._remade).float()
        loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())
        return (loss if step >= spec.start else 0.0 * loss), {"loss": loss}

    def compile(self) -> None:
        """Compile the nets in place; with a critic, so that its adaptive weight may go through a graph twice."""
        if self.critic is not None:
            functorch.donated_buffer = False  # else a compiled graph refuses retain_graph
        super().compile()

    def rate(self, player: str) -> float | None:
        """The critic has a learning rate of its own."""
        spec = self.terms.adversarial
        return spec.rate if player == CRITIC and spec is not None else None

    def describe(self) -> dict[str, Any]:
        """Pictures, and sizes of the nets."""
        return {"pictures": self._count(), **super().describe()}

    def warnings(self) -> list[str]:
        """Few pictures."""
        return few_pictures(self._count()) if self.terms.start is None else []

    def _count(self) -> int:
        """Pictures to learn from, each once, however often it is shown in an epoch."""
        return len({id(row) for row in self.pictures.rows})

    def preview(self, step: int) -> Image.Image:
        """Held-out pictures above their reconstructions."""
        rows = range(min(PREVIEWS, len(self.previews.rows)))
        spec = self.recipe.data.render
        shown = torch.stack([render(self.previews, i, spec, numpy_stream("preview", i)).pixels for i in rows])
        codec = Codec(self.autoencoder, torch.zeros(1), torch.ones(1), self.spec.factor, self.spec.latent_channels)
        remade = codec.to(self.device)(shown.to(self.device)).cpu()
        return grid_image(to_images(torch.cat([shown, remade])), columns=len(rows))

    def export(self, folder: Path) -> None:
        """Write the autoencoder as a codec; stage two measures the statistics of its latents."""
        save_codec(self.autoencoder, CodecSpec(autoencoder=self.spec), folder)


Remade = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Reconstruction (B, 3, c, c), the weighted sum of what keeps latents in bounds, and the terms of that sum by name."""


def _near_a_gaussian(net: ConvolutionalAutoencoder, x: Tensor, noise: Tensor, terms: Terms) -> Remade:
    remade, mean, logvar = net(x, noise)
    mean, logvar = mean.float(), logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return remade.float(), terms.kl * kl, {"kl": kl}


def _near_its_codes(net: ConvolutionalAutoencoder, x: Tensor, noise: Tensor, terms: Terms) -> Remade:
    """`noise` is not needed: a code is certain."""
    assert isinstance(net, VQAutoencoder)
    remade, quantized = net(x)
    _, perplexity = code_use(torch.bincount(quantized.indices.flatten(), minlength=len(net.quantizer.codes)))
    values = {"codebook": quantized.codebook, "commitment": quantized.commitment, "perplexity": perplexity}
    return remade.float(), terms.codebook * quantized.codebook + terms.commitment * quantized.commitment, values


def _decoded_alone(net: ConvolutionalAutoencoder, x: Tensor, noise: Tensor, terms: Terms) -> Remade:
    """Through latents as they are used afterwards, a little wrong; nothing needs to keep them in bounds any more."""
    with torch.no_grad():
        latents = net.encode(x)[0] + noise
    return net.decode(latents).float(), x.new_zeros(()), {}


BOUNDS: dict[str, Callable[[ConvolutionalAutoencoder, Tensor, Tensor, Terms], Remade]] = {
    "kl": _near_a_gaussian,
    "vq": _near_its_codes,
}


def gradient_loss(difference: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring errors: sharp edges cost as much as flat areas."""
    across = (difference[..., :, 1:] - difference[..., :, :-1]).abs().mean()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return across + down
