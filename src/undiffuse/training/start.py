"""What a recipe takes over from the model that its run goes on from."""

from __future__ import annotations

from pathlib import Path

from undiffuse.checkpoints.api import find_folder
from undiffuse.checkpoints.folder import SPEC
from undiffuse.checkpoints.native import MODEL_FORMAT, read_spec
from undiffuse.core.errors import CheckpointError, SpecError, explain
from undiffuse.model.spec import ModelSpec
from undiffuse.training.recipe import DiffusionObjective, Recipe


def settle(recipe: Recipe) -> Recipe:
    """The recipe with everything filled in that follows from `objective.start`, as a run keeps it.

    The pictures are shown in the size of that model, unless the recipe names one; a denoiser goes on with its own
    prediction and schedule, and with latents of the same importance unless the recipe wants another.

    Raises:
        CheckpointError: when there is no such model.
        SpecError: when the recipe asks for something else than the model has.
    """
    terms = recipe.objective
    if terms.start is None:
        return recipe
    table = "denoiser" if isinstance(terms, DiffusionObjective) else "autoencoder"
    if getattr(recipe, table) is not None:
        raise SpecError(explain(f"[{table}] beside objective.start", "that model brings its own net", "leave one of them out"))
    spec = _read(find_folder(terms.start))
    if spec is None:
        if not isinstance(terms, DiffusionObjective):
            return recipe
        given = f"objective.start = {terms.start!r} holds an autoencoder only"
        raise CheckpointError(
            explain(given, "a whole model is needed", "name it as objective.codec, or start from a whole model")
        )
    if "size" not in recipe.data.render.model_fields_set:
        render = recipe.data.render.model_copy(update={"size": spec.size})
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"render": render})})
    if isinstance(terms, DiffusionObjective):
        recipe = recipe.model_copy(update={"objective": _taken_over(terms, spec)})
    return recipe


def _read(folder: Path) -> ModelSpec | None:
    """The spec of a whole model; None for an autoencoder alone."""
    raw = read_spec(folder)
    return ModelSpec.parse(raw, where=str(folder / SPEC)) if raw["format"] == MODEL_FORMAT else None


def _taken_over(terms: DiffusionObjective, spec: ModelSpec) -> DiffusionObjective:
    """The objective with the model's own prediction and schedule."""
    for name in ("prediction", "schedule"):
        asked, own = getattr(terms, name), getattr(spec, name)
        if asked not in (type(terms).model_fields[name].default, own):
            given = f"objective.{name} beside objective.start = {terms.start!r}"
            raise SpecError(explain(given, "the model goes on with what it has learned", f"leave objective.{name} out"))
    own = {"prediction": spec.prediction, "schedule": spec.schedule}
    if "importance" not in terms.model_fields_set:
        own["importance"] = spec.codec.latent.importance
    return terms.model_copy(update=own)
