"""Families told from names and shapes alone, on the full sizes, which cost nothing without numbers."""

from __future__ import annotations

import pytest

from undiffuse.checkpoints.detect import FIRST, UNET, detect, other_kind
from undiffuse.checkpoints.keys.nets import codec_names, denoiser_names
from undiffuse.checkpoints.single_file import to_single_file
from undiffuse.core.errors import SpecError, UnknownFormat
from undiffuse.model.build import build_empty
from undiffuse.model.families import CONDITIONERS, family

FAMILIES = [*CONDITIONERS, "sd1-inpaint", "sd2-base-inpaint", "sdxl-base-inpaint"]


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Those of a file of this family."""
    return {key: tuple(tensor.shape) for key, tensor in to_single_file(build_empty(family(name))).items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_told_by_its_tensors(name: str) -> None:
    found = detect(shapes(name))
    plain = name.removesuffix("-inpaint")
    of_both_kinds = plain in ("sd2-base", "sd2-v")
    assert found.family == ("sd2" if of_both_kinds else plain)
    assert found.inpainting == name.endswith("-inpaint") and not found.ema
    assert found.prediction == (None if of_both_kinds else "v" if plain == "x4-upscaler" else "eps")
    assert found.channels == {"sd2-depth": 5, "x4-upscaler": 7}.get(name, 9 if found.inpainting else 4)


@pytest.mark.parametrize(("name", "unet", "codec"), [("sd1", 686, 248), ("sdxl-base", 1680, 248), ("sdxl-refiner", 1220, 248)])
def test_the_original_has_as_many_tensors(name: str, unet: int, codec: int) -> None:
    model = build_empty(family(name))
    names, codec_told = denoiser_names(model, "compvis").names, codec_names(model, "compvis").names
    assert len(set(names.values())) == len(names) == unet
    assert len(set(codec_told.values())) == len(codec_told) == codec


def test_the_layout_of_sd1_is_that_of_the_original() -> None:
    found = shapes("sd1")
    expected = {
        f"{UNET}input_blocks.3.0.op.weight": (320, 320, 3, 3),
        f"{UNET}input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        f"{UNET}middle_block.1.proj_in.weight": (1280, 1280, 1, 1),
        f"{UNET}output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        f"{UNET}output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        f"{UNET}output_blocks.8.0.in_layers.0.weight": (960,),
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.weight": (768, 3072),
    }
    assert {name: found[name] for name in expected} == expected
    upscaler = shapes("x4-upscaler")
    expected = {
        f"{UNET}label_emb.weight": (1000, 1024),
        f"{UNET}input_blocks.4.1.transformer_blocks.0.attn1.to_k.weight": (512, 1024),
        f"{UNET}input_blocks.10.1.transformer_blocks.0.attn1.to_k.weight": (1024, 1024),
        f"{UNET}middle_block.1.transformer_blocks.0.attn1.to_k.weight": (1024, 1024),
        f"{UNET}output_blocks.8.1.transformer_blocks.0.attn1.to_k.weight": (512, 1024),
        "first_stage_model.decoder.up.2.block.0.norm1.weight": (512,),
    }
    assert {name: upscaler[name] for name in expected} == expected
    large = shapes("sdxl-base")
    assert large["conditioner.embedders.1.model.text_projection"] == (1280, 1280)
    assert large["conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight"] == (3840, 1280)
    assert large[f"{UNET}label_emb.0.0.weight"] == (1280, 2816)


def test_what_a_file_says_of_its_prediction_counts() -> None:
    assert detect(shapes("sd2-base"), {"modelspec.predict_key": "v"}).prediction == "v"
    averaged = {"model_ema.diffusion_modeltime_embed0weight": (1280, 320)}
    assert detect(shapes("sd1") | averaged).ema


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"lora_unet_down_blocks_0.lora_down.weight": (4, 320)}, "this is a LoRA; a whole checkpoint"),
        ({"string_to_param.*": (4, 768)}, "a textual inversion"),
        ({"decoder.up.0.block.0.conv1.weight": (1,)}, "an autoencoder alone"),
        ({"a": (1,)}, "a file of 1 tensors of some other model"),
        (
            {FIRST: (320, 5, 3, 3), f"{UNET}x.attn2.to_k.weight": (320, 768)},
            "a depth model that reads tokens of 768 features; 4",
        ),
        ({FIRST: (320, 8, 3, 3), f"{UNET}x.attn2.to_k.weight": (320, 768)}, "this is an InstructPix2Pix model"),
        ({FIRST: (320, 4, 3, 3), f"{UNET}x.attn2.to_k.weight": (320, 512)}, "reads tokens of 512 features"),
        ({FIRST: (320, 4, 3, 3)}, "reads no tokens"),
    ],
)
def test_other_files_are_named_for_what_they_are(tensors: dict[str, tuple[int, ...]], told: str) -> None:
    with pytest.raises(UnknownFormat, match=told):
        detect(tensors)


def test_every_family_has_its_name_and_no_other_has() -> None:
    assert other_kind({"control_model.x": (1,)}) == "a ControlNet"
    with pytest.raises(SpecError, match="sdxl-refiner"):
        family("sd3")
