"""From a recipe of kind "preview_decoder" to an objective that is ready to learn."""

from __future__ import annotations

import torch

from undiffuse.checkpoints.api import find_folder, load_codec, load_model
from undiffuse.checkpoints.native import MODEL_FORMAT, read_spec
from undiffuse.core.errors import SpecError, explain
from undiffuse.model.build import build_previewer
from undiffuse.model.spec import CodecSpec
from undiffuse.training.objectives.preview import PreviewTraining
from undiffuse.training.opening import open_pictures, place, seeded
from undiffuse.training.recipe import PreviewObjective, Recipe


def prepare_preview(recipe: Recipe, terms: PreviewObjective, device: torch.device) -> PreviewTraining:
    """Build the objective around the codec that `start` names; a decoder for previews that it has already is replaced.

    Raises:
        SpecError: when crop or patch do not fit the codec.
        DataError, CheckpointError: when pictures or the model cannot be read.
    """
    folder = find_folder(terms.start)
    model = load_model(folder) if read_spec(folder)["format"] == MODEL_FORMAT else None
    codec, spec = load_codec(folder) if model is None else (model.codec, model.spec.codec)
    spec = CodecSpec.parse({**spec.model_dump(), "preview": terms.net}, where="objective.net")
    side = recipe.data.render.size
    if terms.crop % codec.factor or terms.crop > side:
        allowed = f"a multiple of {codec.factor} up to data.render.size = {side} is allowed"
        raise SpecError(explain(f"objective.crop = {terms.crop}", allowed))
    _, pictures, held_out = open_pictures(recipe)
    with seeded(recipe, "preview"):
        codec.previewer = build_previewer(spec)
    place(codec, device)
    return PreviewTraining(recipe, codec, spec, model, pictures, held_out)
