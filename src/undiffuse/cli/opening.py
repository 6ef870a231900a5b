"""How `serve` and `studio` make the generators of the models that they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from undiffuse.core.errors import SpecError, UsageError, explain

if TYPE_CHECKING:
    from undiffuse.generation.generator import Generator
    from undiffuse.model.latent_diffusion import LatentDiffusion
    from undiffuse.serving.models import Opened

Tell = Callable[[str], None]


def opener(
    tell: Tell,
    device: str | None = None,
    precision: str | None = None,
    lora_dir: Path | None = None,
    embedding_dir: Path | None = None,
    refiner: str | None = None,
) -> Opened:
    """What makes the generator of a loaded model. What does not fit a model, refiner or learned word, is left out and told of.

    Args:
        tell: takes what is said, in lines.
        device: where all of them draw.
        precision: in which they do.
        lora_dir: LoRAs that prompts may name.
        embedding_dir: learned words that prompts may name.
        refiner: a model that finishes what the others began, of requests with `refine_at`; loaded now.

    Raises:
        CheckpointError: when the refiner cannot be loaded.
        UsageError: when there is no such folder.
    """
    from undiffuse.checkpoints.adapters import add_embeddings
    from undiffuse.checkpoints.api import load_model
    from undiffuse.generation.generator import Generator
    from undiffuse.generation.refining import check_refiner

    if embedding_dir is not None and not embedding_dir.is_dir():
        allowed = "--embedding-dir names a folder of learned words"
        raise UsageError(explain(f"no folder {str(embedding_dir)!r}", allowed, "check the path"))
    finishing = None if refiner is None else load_model(refiner)

    def fits(loaded: LatentDiffusion) -> LatentDiffusion | None:
        if finishing is None:
            return None
        try:
            check_refiner(loaded, finishing)
        except SpecError as error:
            tell(f"{loaded.spec.name!r} is drawn without a refiner: {error}")
            return None
        return finishing

    def opened(loaded: LatentDiffusion) -> Generator:
        if embedding_dir is not None:
            for name, why in add_embeddings(loaded, embedding_dir).items():
                tell(f"{name} is no word for {loaded.spec.name!r}: {why}")
        return Generator(
            loaded, refiner=fits(loaded), device=device, precision=precision, batch=1, lora_dir=lora_dir, tell=tell
        )

    return opened
