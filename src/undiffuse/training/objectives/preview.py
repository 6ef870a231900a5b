"""A tiny decoder learns from a codec's own one, for previews (an idea that TAESD made popular)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from undiffuse.checkpoints.api import save_model
from undiffuse.checkpoints.native import save_codec
from undiffuse.core.pictures import grid_image, to_images
from undiffuse.core.random import numpy_stream
from undiffuse.data.dataset import Pictures
from undiffuse.data.render import render
from undiffuse.data.sampler import slot_index
from undiffuse.model.codec import Codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import CodecSpec
from undiffuse.networks.tiny_decoder import TinyDecoder
from undiffuse.training.objectives.autoencoder import gradient_loss
from undiffuse.training.objectives.base import Objective
from undiffuse.training.recipe import PreviewObjective as Terms
from undiffuse.training.recipe import Recipe

PREVIEWS = 8
PLAYER = "preview"


class PreviewTraining(Objective[Tensor]):
    """Mean errors against what the codec's own decoder makes of latents of a data set.

    Args:
        recipe: of kind "preview_decoder".
        codec: frozen, with the decoder that learns as its `previewer`.
        spec: of the codec, with that decoder in it.
        model: the whole model that the codec is from; None when it comes alone.
        pictures: to learn from.
        previews: to show.
    """

    def __init__(
        self,
        recipe: Recipe,
        codec: Codec,
        spec: CodecSpec,
        model: LatentDiffusion | None,
        pictures: Pictures,
        previews: Pictures,
    ) -> None:
        terms = recipe.objective
        assert isinstance(terms, Terms) and isinstance(codec.previewer, TinyDecoder)
        self.recipe = recipe
        self.terms = terms
        self.codec = codec
        self.spec = spec
        self.model = model
        self.pictures = pictures
        self.previews = previews
        self.players = {PLAYER: codec.previewer.train().requires_grad_(True)}

    def batch(self, step: int, slots: range) -> Tensor:
        """Random crops (B, 3, c, c) of rendered pictures, a stream of numbers for every slot."""
        seed, size = self.recipe.run.seed, self.terms.crop
        crops = []
        for slot in slots:
            rng = numpy_stream("preview decoder", seed, step, slot)
            _, index = slot_index(seed, step, slot, self.recipe.run.batch, len(self.pictures.rows))
            pixels = render(self.pictures, index, self.recipe.data.render, rng).pixels
            top, left = (int(rng.integers(0, side - size + 1)) for side in pixels.shape[1:])
            crops.append(pixels[:, top : top + size, left : left + size])
        return torch.stack(crops)

    def loss(self, player: str, batch: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the terms, and how near to the codec's own decoding this is."""
        with torch.no_grad():
            latents, _ = self.codec.moments(batch.to(self.codec.device, memory_format=torch.channels_last))
            wanted = self.codec.autoencoder.decode(latents).float().clamp(-1, 1)
        difference = self.players[player](latents).float() - wanted
        values = {
            "l1": difference.abs().mean(),
            "l2": difference.square().mean(),
            "gradient": gradient_loss(difference),
        }
        terms = self.terms
        total = terms.l1 * values["l1"] + terms.l2 * values["l2"] + terms.gradient * values["gradient"]
        return total, {"loss": total, **values, "psnr": -10 * torch.log10(values["l2"].detach() / 4)}

    def describe(self) -> dict[str, Any]:
        """Pictures, and the size of the net."""
        return {"pictures": len(self.pictures.rows), **super().describe()}

    def preview(self, step: int) -> Image.Image:
        """Held-out pictures as the codec's own decoder gives them back, above what the tiny one makes of the same latents."""
        rows = range(min(PREVIEWS, len(self.previews.rows)))
        spec = self.recipe.data.render
        shown = torch.stack([render(self.previews, i, spec, numpy_stream("preview", i)).pixels for i in rows])
        z = self.codec.encode(shown.to(self.codec.device))
        return grid_image(to_images(torch.cat([self.codec.decode(z), self.codec.preview(z)])), columns=len(rows))

    def export(self, folder: Path) -> None:
        """Write the model, or the codec alone, with the decoder in it."""
        if self.model is None:
            save_codec(self.codec.autoencoder, self.spec, folder, self.codec.previewer)
        else:
            save_model(replace(self.model, spec=self.model.spec.model_copy(update={"codec": self.spec})), folder)
