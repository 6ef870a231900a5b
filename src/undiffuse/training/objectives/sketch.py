"""A small net learns the mean latent of a caption, so that a U-Net need not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from undiffuse.checkpoints.api import save_model
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.pictures import grid_image, to_images
from undiffuse.core.random import BatchNoise, uniform
from undiffuse.data.latents import LatentCache
from undiffuse.data.sampler import batch_indices
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.networks.arrangement import WAYS
from undiffuse.networks.memory import in_front_of
from undiffuse.networks.sketcher import Sketcher
from undiffuse.training.captions import CaptionCache
from undiffuse.training.objectives.base import Objective
from undiffuse.training.recipe import Recipe
from undiffuse.training.recipe import SketchObjective as Terms
from undiffuse.training.shelf import Shelf

PREVIEWS = 16
EXAMPLES = 100_000  # token states, about, that tell how far they deviate
PLAYER = "sketcher"


@dataclass(frozen=True)
class Two:
    """How two things stand (B,), -1 where there are no two, and the places in memory of both (B, 2)."""

    ways: Tensor
    places: Tensor


@dataclass(frozen=True)
class Wanted:
    """What captions should call to mind: places in memory (B,), or, where they are `strange` (B,), others like them.

    `two` tells of renderings of two things.
    """

    sought: Tensor
    strange: Tensor
    two: Two | None = None


@dataclass(frozen=True)
class Described:
    """Normalised latents (B, C, h, w), the token states of what is said of them, and what it should call to mind."""

    z: Tensor
    states: Tensor  # (B, N, D)
    mask: Tensor  # (B, N)
    wanted: Wanted | None = None


@dataclass(frozen=True)
class Sought:
    """The place in memory that each rendering (N * V,) should call to mind, and the group (M + 1,) of each place.

    Where two things are told apart, `two` tells of each rendering how they stand and the places of both.
    """

    places: Tensor
    groups: Tensor
    two: Two | None = None

    def to(self, device: torch.device) -> Sought:
        """The same where the nets are."""
        two = None if self.two is None else Two(self.two.ways.to(device), self.two.places.to(device))
        return Sought(self.places.to(device), self.groups.to(device), two)


class SketchTraining(Objective[Described]):
    """Squared error of the sketch of a caption against latents of what it was said of.

    Args:
        recipe: of kind "sketch".
        model: the record whose text part has the net that learns.
        text: that part.
        cache: latents and captions of the data set.
        captions: states of those captions.
        shown: which pictures it learns from, in order.
        sought: what captions should call to mind; None without a memory.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: LatentDiffusion,
        text: TextConditioner,
        cache: LatentCache,
        captions: CaptionCache,
        shown: Tensor,
        sought: Sought | None = None,
    ) -> None:
        terms = recipe.objective
        assert isinstance(terms, Terms) and isinstance(text.sketcher, Sketcher)
        self.recipe = recipe
        self.terms = terms
        self.model = model
        self.text = text
        self.cache = cache
        self.players = {PLAYER: text.sketcher.train().requires_grad_(True)}
        self.shelf = Shelf([cache], captions, [], {"text": text}, model.device)
        self.deviation = float(
            captions.states[:: max(1, len(captions.states) // EXAMPLES)].float().std()
        )  # short and long ones
        self.shown = shown
        self.sought = None if sought is None else sought.to(model.device)

    def batch(self, step: int, slots: range) -> Described:
        """Latents and states for these slots, functions of (seed, step, slot), where the nets are."""
        seed, size = self.recipe.run.seed, self.recipe.run.batch
        variants = (uniform((size,), "variant", seed, step)[slots.start : slots.stop] * self.cache.variants).long()
        indices = self.shown[torch.from_numpy(batch_indices(seed, step, slots, size, len(self.shown)))]
        places = (indices * self.cache.variants + variants).to(self.model.device)
        noise = BatchNoise(self.model.device, size, slots, "sketch", seed, step)
        said = noise.uniform("silent") >= self.terms.drop
        cond = self.shelf.cond("text", places, said, {}, self.cache.shape[1:])
        states, mask = self._heard(cond, noise)
        z = self.model.codec.normalise(self.shelf.latents(places))
        if self.sought is None:
            return Described(z, states, mask)
        two = None if self.sought.two is None else Two(self.sought.two.ways[places], self.sought.two.places[places])
        strange = noise.uniform("strange") < self.terms.strange
        return Described(z, states, mask, Wanted(self.sought.places[places], strange, two))

    def _heard(self, cond: Conditioning, noise: BatchNoise) -> tuple[Tensor, Tensor]:
        """Token states (B, N, D) as the net hears them, disturbed, and which count (B, N), up to the longest caption."""
        states, mask = cond.tokens, cond.token_mask
        assert states is not None and mask is not None
        longest = int(mask.sum(1).max()) if len(mask) else 0
        if self.terms.noise:
            disturbance = noise.normal("states", states.shape[1:])  # whatever else is in the batch
            states = states + self.terms.noise * self.deviation * disturbance * mask[..., None]
        return states[:, :longest], mask[:, :longest]

    def loss(self, player: str, batch: Described, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error, and the share of the variance of the batch that is left; with a memory, what it recalls."""
        net = self.text.sketcher
        assert net is not None
        features = net.read(batch.states, batch.mask)
        expected = net.expect(features).float()
        error = (expected - batch.z).square().mean()
        told = {"unexplained": error / batch.z.var(dim=0).mean()}
        wanted = batch.wanted
        if self.sought is None or net.memory is None or wanted is None:
            return error, {"loss": error, **told}
        recall = recollection(net.memory.logits(features).float(), wanted.sought, wanted.strange, self.sought.groups).mean()
        loss = error + self.terms.recall * recall
        told["recall"] = recall
        if wanted.two is not None:
            of_two, told_of_two = self._loss_of_two(batch, wanted.two, wanted.strange, features, expected.detach())
            loss, told = loss + of_two, told | told_of_two
        return loss, {"loss": loss, **told}

    def _loss_of_two(
        self, batch: Described, asked: Two, strange: Tensor, features: Tensor, expected: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the rows with two things: which things they are, how they stand, and the map that both make."""
        net, sought = self.text.sketcher, self.sought
        assert net is not None and net.memory is not None and net.arrangement is not None and sought is not None
        rows = (asked.ways >= 0).nonzero().flatten()  # perhaps none, and then every loss is 0
        ways, two, strange = asked.ways[rows], asked.places[rows], strange[rows]
        losses = {"way": F.cross_entropy(net.arrangement.way(features[rows]).float(), ways, reduction="none")}
        known = two < len(sought.groups) - 1  # in memory
        of_both = net.read_two(batch.states[rows], batch.mask[rows])
        for name, some, places, there in zip(("first", "second"), of_both, two.T, known.T, strict=True):
            logits = net.memory.logits(some[there])[:, :-1].float()
            losses[name] = recollection(logits, places[there], strange[there], sought.groups[:-1])
        both = known.all(1)
        things = [net.memory.kept(places) for places in two[both].T]
        made = in_front_of(net.arrangement(*things, F.one_hot(ways[both], len(WAYS)).float()), expected[rows][both])
        losses["arranged"] = (made - batch.z[rows][both]).square().mean((1, 2, 3))
        sums = {name: each.sum() for name, each in losses.items()}
        loss = sums["arranged"] + self.terms.recall * (sums["way"] + sums["first"] + sums["second"])
        return loss / len(batch.z), {name: total / max(len(losses[name]), 1) for name, total in sums.items()}

    def compile(self) -> None:
        """Compile what the loss asks of the net; the rest of it is one product."""
        assert self.text.sketcher is not None
        self.text.sketcher.read = torch.compile(self.text.sketcher.read)  # type: ignore[method-assign]

    def describe(self) -> dict[str, Any]:
        """Pictures that are shown, and the size of the net."""
        return {"pictures": len(self.shown), **super().describe()}

    def preview(self, step: int) -> Image.Image:
        """Sketches of the recipe's prompts, or of the first captions of the cache, as the decoder shows them."""
        prompts = self.terms.preview_prompts or tuple(row[0] for row in self.cache.captions[:PREVIEWS])
        self.text.forget()
        sketch = self.text([{"caption": prompt} for prompt in prompts]).spatial
        assert sketch is not None
        return grid_image(to_images(self.model.codec.decode(sketch)))

    def export(self, folder: Path) -> None:
        """Write the whole model, which knows the net and does not draw by it yet."""
        self.text.forget()
        save_model(self.model, folder)


def recollection(logits: Tensor, sought: Tensor, strange: Tensor, groups: Tensor) -> Tensor:
    """Nats (B,) that logits (B, M + 1) are short of certainty about the place (B,) that is sought.

    Where `strange` (B,), that place is out of bounds and any other of its group (M + 1,) is sought; where it has no other
    nothing is strange.
    """
    places = torch.arange(logits.shape[1], device=logits.device)
    own = places == sought[:, None]  # (B, M + 1)
    others = (groups == groups[sought][:, None]) & ~own
    strange = strange & others.any(1)
    right = torch.where(strange[:, None], others, own)
    possible = ~(own & strange[:, None])
    out = float("-inf")
    return logits.masked_fill(~possible, out).logsumexp(1) - logits.masked_fill(~right, out).logsumexp(1)


def shown(count: int, apart: float, seed: int) -> Tensor:
    """Which of `count` pictures are not kept apart, as indices in order; one at least."""
    draws = uniform((count,), "apart", seed)
    return torch.nonzero(draws >= min(apart, float(draws.max()))).flatten()
