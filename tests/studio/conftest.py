"""The studio over a tiny model, and a browser in which nothing may go wrong and nobody else is asked for anything."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import save_file
from tests.serving.conftest import Served, make_desk, serving

from undiffuse.checkpoints.api import save_model
from undiffuse.cli.studio_counter import DeskCounter
from undiffuse.conditioners.maps import MapSpec
from undiffuse.core.random import normal
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
PATIENCE = 60_000  # milliseconds: a page takes 20 seconds to open on a machine that is busy with other things
QUIET = re.compile(r"favicon|manifest\.json|404 \(Not Found\)|reset_layers")  # the last is gradio's canvas, used at once


def reads_maps(spec: ModelSpec) -> LatentDiffusion:
    """A tiny model that reads semantic maps and nothing else."""
    net = spec.denoiser.model_copy(update={"context_width": None, "vector_width": None, "spatial_channels": 3})
    maps = MapSpec(classes=("grass", "sky"), factor=spec.codec.autoencoder.factor, how="resize")
    return build_model(spec.model_copy(update={"name": "maps", "conditioners": (maps,), "denoiser": net})).eval()


def make_lora(path: Path) -> None:
    """A LoRA for one layer of the tiny model."""
    path.parent.mkdir()
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
    down, up = normal((2, 64), "studio", "down"), normal((64, 2), "studio", "up")
    save_file({f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}, path)


@pytest.fixture(scope="module")
def studio(tiny_folder: Path, tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("gradio")
    from undiffuse.studio.mount import mount

    root = tmp_path_factory.mktemp("studio")
    (root / "mine").mkdir()
    save_model(reads_maps(tiny_spec), root / "models" / "maps")
    make_lora(root / "loras" / "style.safetensors")
    desk = make_desk(root / "out", tiny_folder, root / "models", root / "loras", count=16, body=20_000_000, pixels=2_000_000)
    with serving(desk, more=lambda app: mount(app, DeskCounter(desk), root / "out" / "pictures", root / "mine")) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(studio: Served, browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: None if QUIET.search(str(error)) else wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" and not QUIET.search(said.text) else None)
    page.on("request", lambda asked: None if asked.url.startswith((studio.url, "data:", "blob:")) else wrong.append(asked.url))
    page.goto(f"{studio.url}/studio/")
    yield page  # what is looked up when it is opened may still come: clicks and words of the first moment count too
    page.close()
    assert wrong == []


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.effect_noise((16, 16), 60).convert("RGB").resize((32, 32)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"
