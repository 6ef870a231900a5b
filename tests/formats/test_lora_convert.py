"""LoRA files between the forms, with the names of the real models; only a few layers, but those at their real sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from undiffuse.checkpoints.lora_convert import convert_lora
from undiffuse.cli.main import run
from undiffuse.core.errors import CheckpointError, MissingKeys, SpecError

# What kohya's and diffusers' trainers call a layer, and its (in, out).
SD1 = {
    "lora_unet_down_blocks_2_attentions_1_transformer_blocks_0_attn2_to_k": (
        "unet.down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k",
        (768, 1280),
    ),
    "lora_unet_up_blocks_3_attentions_2_proj_in": ("unet.up_blocks.3.attentions.2.proj_in", (320, 320)),
    "lora_te_text_model_encoder_layers_11_mlp_fc1": ("text_encoder.text_model.encoder.layers.11.mlp.fc1", (768, 3072)),
}
XL = {
    "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k": (
        "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k",
        (2048, 640),
    ),
    "lora_unet_middle_block_1_transformer_blocks_9_ff_net_0_proj": (
        "unet.mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj",
        (1280, 10240),
    ),
    "lora_unet_output_blocks_5_1_proj_out": ("unet.up_blocks.1.attentions.2.proj_out", (640, 640)),
    "lora_te1_text_model_encoder_layers_11_self_attn_q_proj": (
        "text_encoder.text_model.encoder.layers.11.self_attn.q_proj",
        (768, 768),
    ),
    "lora_te2_text_model_encoder_layers_31_mlp_fc2": ("text_encoder_2.text_model.encoder.layers.31.mlp.fc2", (5120, 1280)),
}


def kohya(layers: dict[str, tuple[str, tuple[int, int]]]) -> dict[str, Tensor]:
    found = {}
    for number, (name, (_, (inner, out))) in enumerate(layers.items()):
        tail = (1, 1) if name.endswith("proj_in") else ()  # a convolution in SD 1.x
        found[f"{name}.lora_down.weight"] = torch.full((2, inner, *tail), 1.0 + number)
        found[f"{name}.lora_up.weight"] = torch.full((out, 2, *tail), -1.0 - number)
        found[f"{name}.alpha"] = torch.tensor(1.5)
    return found


@pytest.mark.parametrize("layers", [SD1, XL], ids=["SD 1.x", "XL"])
def test_names_and_numbers_of_real_models_there_and_back(
    layers: dict[str, tuple[str, tuple[int, int]]], tmp_path: Path
) -> None:
    first, second, third = (tmp_path / f"{name}.safetensors" for name in "abc")
    save_file(kohya(layers), first)
    convert_lora(first, second, "diffusers")
    written = load_file(second)
    assert set(written) == {f"{name}.lora_{part}.weight" for name, _ in layers.values() for part in "AB"}
    assert {float(tensor.flatten()[0]) for tensor in written.values()} == {
        sign * (1.0 + number) for number in range(len(layers)) for sign in (1, -1)
    }
    convert_lora(second, third, "kohya")
    back = load_file(third)
    assert back.keys() == kohya(layers).keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in kohya(layers).items())


def test_the_base_may_be_named_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({name: tensor for name, tensor in kohya(SD1).items() if "te_text" in name}, path)
    with pytest.raises(CheckpointError, match="does not tell what it was made for"):
        convert_lora(path, tmp_path / "b.safetensors")
    convert_lora(path, tmp_path / "b.safetensors", base="sd1")
    assert (tmp_path / "b.safetensors").exists()
    save_file({"lora_unet_double_blocks_0.alpha": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="made for FLUX"):
        convert_lora(path, tmp_path / "c.safetensors")
    with pytest.raises(MissingKeys):
        convert_lora(path, tmp_path / "c.safetensors", base="sd1")
    with pytest.raises(SpecError, match="sd3"):
        convert_lora(path, tmp_path / "c.safetensors", base="sd3")


def test_the_command_takes_loras_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = (str(tmp_path / f"{name}.safetensors") for name in "abc")
    save_file(kohya(SD1), first)
    assert run(["convert", first, "--to", "diffusers", "--out", second]) == 0
    assert run(["convert", second, "--to", "kohya", "--out", third]) == 0
    back = load_file(third)
    assert all(torch.equal(back[name], tensor) for name, tensor in kohya(SD1).items() if "lora" in name and "alpha" not in name)
    capsys.readouterr()
    for more, told in (
        (["--to", "native", "--out", str(tmp_path / "d")], "--to native with a LoRA; allowed are kohya, diffusers"),
        (["--to", "kohya", "--out", second], "is there already"),
        (["--to", "kohya", "--out", "d.ckpt"], "its name ends in .safetensors"),
        (["--to", "kohya", "--out", "d.safetensors", "--prediction", "v"], "--prediction with a LoRA"),
    ):
        assert run(["convert", first, *more]) in (2, 4)
        assert told in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 3
