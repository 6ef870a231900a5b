"""What tests of the server share: an engine without its thread, and what a job was told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from PIL import Image

from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion


@dataclass
class Heard:
    """A listener that keeps what it is told."""

    steps: list[tuple[int, int, int]] = field(default_factory=list)
    pictures: dict[int, Image.Image] = field(default_factory=dict)
    begun: Request | None = None
    over: bool = False
    error: Exception | None = None
    after_step: Callable[[], None] = lambda: None
    previews: list[Image.Image] = field(default_factory=list)
    look: bool = False

    def started(self, request: Request) -> None:
        self.begun = request

    def stepped(self, picture: int, done: int, steps: int, preview: Callable[[], Image.Image]) -> None:
        self.steps.append((picture, done, steps))
        if self.look:
            self.previews.append(preview())
        self.after_step()

    def finished(self, picture: int, image: Image.Image) -> None:
        self.pictures[picture] = image

    def ended(self, error: Exception | None) -> None:
        self.over, self.error = True, error


@pytest.fixture(scope="session")
def alone(tiny_model: LatentDiffusion) -> Generator:
    """A generator that draws one picture at a time: what the server must come out equal to."""
    return Generator(tiny_model, device="cpu", precision="fp32", batch=1, tell=None)
