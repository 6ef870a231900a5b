"""How prompts of Stable Diffusion are read, against diffusers and against numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from undiffuse.checkpoints.api import load_model

Pipelines = Callable[[str], tuple[Any, Path]]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

PROMPT = "a fox, 3d render"


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(("kind", "clip_skip", "layer"), [("sd1", 2, -2), ("sd1", 3, -3), ("sd2-v", 3, -2)])
@torch.no_grad()
def test_clip_skip_reads_the_layer_that_the_web_ui_reads(kind: str, clip_skip: int, layer: int, pipelines: Pipelines) -> None:
    """hidden_states[-n] and the final norm; a folder of SD 2.x lacks the last layer of the net that was trained."""
    pipe, folder = pipelines(kind)
    conditioner = load_model(folder).conditioner
    ids = pipe.tokenizer(PROMPT, padding="max_length", max_length=77, return_tensors="pt").input_ids
    states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
    cond, usual = (conditioner([{"caption": PROMPT, **more}], (8, 8)) for more in ({"clip_skip": clip_skip}, {}))
    assert cond.tokens is not None and usual.tokens is not None
    expected = pipe.text_encoder.final_layer_norm(states[layer])
    assert relative_error(cond.tokens, expected) <= 1e-5 < relative_error(usual.tokens, expected)


@torch.no_grad()
def test_clip_skip_of_xl_goes_back_in_both_encoders(pipelines: Pipelines) -> None:
    """As in diffusers, which counts what is left out beyond the layer that XL reads."""
    pipe, folder = pipelines("xl")
    conditioner = load_model(folder).conditioner
    options = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    expected = pipe.encode_prompt(PROMPT, **options, clip_skip=1)
    cond, usual, same = (conditioner([{"caption": PROMPT, "clip_skip": n}], (8, 8)) for n in (3, 1, 2))
    assert cond.tokens is not None and usual.tokens is not None and same.tokens is not None and cond.vector is not None
    assert relative_error(cond.tokens, expected[0]) <= 1e-5 < relative_error(usual.tokens, expected[0])
    assert relative_error(cond.vector[:, :24], expected[2]) <= 1e-5
    assert torch.equal(usual.tokens, same.tokens)
