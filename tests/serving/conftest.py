"""What tests of the server share: what a job was told, and a server in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from undiffuse.checkpoints.lora_folder import LoraFolder
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.serving.app import Door
from undiffuse.serving.desk import Desk
from undiffuse.serving.jobs import Jobs
from undiffuse.serving.limits import Limits
from undiffuse.serving.models import Models
from undiffuse.serving.run import Server, door_of, listen


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


def furthest(one: Image.Image, other: Image.Image) -> int:
    """By how many of 255 levels two pictures of one size differ at most."""
    levels = [np.asarray(picture.convert("RGB")).astype(int) for picture in (one, other)]
    return int(np.abs(levels[0] - levels[1]).max())


@pytest.fixture(scope="session")
def alone(tiny_model: LatentDiffusion) -> Generator:
    """A generator that draws one picture at a time: what the server must come out equal to."""
    return Generator(tiny_model, device="cpu", precision="fp32", batch=1, tell=None)


@dataclass
class Served:
    """A server in a thread: its address, and what is behind it."""

    url: str
    desk: Desk

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])


@contextmanager
def serving(desk: Desk, door: Door | None = None, more: Callable[[FastAPI], FastAPI] = lambda app: app) -> Iterator[Served]:
    """A server on a free port of this machine, for as long as the block lasts."""
    socket = listen("127.0.0.1", 0)
    server = Server(desk, door or door_of("127.0.0.1"), socket, more)
    thread = threading.Thread(target=server.serve_until_stopped, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield Served(f"http://127.0.0.1:{socket.getsockname()[1]}", desk)
    finally:
        desk.close_door()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def make_desk(folder: Path, model: Path, models: Path | None = None, loras: Path | None = None, **limits: Any) -> Desk:
    """A desk over the tiny model, and those in a folder; with LoRAs of another folder."""

    def opened(loaded: LatentDiffusion) -> Generator:
        return Generator(loaded, device="cpu", precision="fp32", batch=1, lora_dir=loras, tell=None)

    shelf = Models(str(model), models, opened=opened)
    return Desk(Jobs(folder), shelf, Limits(**{**SMALL, **limits}), batch=4, loras=None if loras is None else LoraFolder(loras))


SMALL = {"side": 64, "steps": 400, "count": 4, "queue": 8, "pixels": 250_000, "body": 2_000_000}


@pytest.fixture(scope="module")
def served(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of the tiny model that the tests of a file share."""
    with serving(make_desk(tmp_path_factory.mktemp("served"), tiny_folder)) as one:
        yield one
