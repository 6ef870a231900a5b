"""LoRA files between the forms, with the names of the real models; only a few layers, but those at their real sizes."""

from __future__ import annotations

import json
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


def test_peft_has_a_folder_for_one_net_there_and_back(tmp_path: Path) -> None:
    first, back = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    unet = {name: tensor for name, tensor in kohya(SD1).items() if "lora_unet" in name}
    odd = next(name for name in unet if name.endswith(".alpha"))
    unet[odd] = torch.tensor(0.1)  # an alpha of its own
    save_file(unet, first)
    (tmp_path / "peft").mkdir()
    assert run(["convert", str(first), "--to", "peft", "--out", str(tmp_path / "peft" / "adapter_model.safetensors")]) == 0
    told = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert told["peft_type"] == "LORA" and told["r"] == 2 and told["lora_alpha"] in (1.5, unet[odd].item())
    names = {f"base_model.model.{name.removeprefix('unet.')}" for name, _ in SD1.values() if name.startswith("unet.")}
    assert set(load_file(tmp_path / "peft" / "adapter_model.safetensors")) == {
        f"{n}.lora_{p}.weight" for n in names for p in "AB"
    }
    assert run(["convert", str(tmp_path / "peft"), "--to", "kohya", "--out", str(back)]) == 0
    there, again = load_file(first), load_file(back)
    assert there.keys() == again.keys() and all(torch.equal(again[name], tensor) for name, tensor in there.items())


@pytest.mark.parametrize("layers", [SD1, XL], ids=["SD 1.x", "XL"])
def test_the_command_knows_a_lora_by_its_header_and_comes_back_to_the_bit(
    layers: dict[str, tuple[str, tuple[int, int]]], tmp_path: Path
) -> None:
    first, second, third = (tmp_path / f"{name}.safetensors" for name in "abc")
    half = {name: tensor.half() for name, tensor in kohya(layers).items()}
    save_file(half, first, {"ss_output_name": "fox"})
    assert run(["convert", str(first), "--to", "diffusers", "--out", str(second)]) == 0
    assert run(["convert", str(second), "--to", "kohya", "--out", str(third)]) == 0
    again = load_file(third)
    assert again.keys() == half.keys()
    assert all(torch.equal(again[name], tensor) and again[name].dtype == torch.float16 for name, tensor in half.items())


def test_the_command_refuses_what_a_form_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "a.safetensors", tmp_path / "adapter_model.safetensors"
    loha = "lora_unet_up_blocks_3_attentions_2_proj_in"
    pairs = {"hada_w1_a": (320, 2), "hada_w1_b": (2, 320), "hada_w2_a": (320, 2), "hada_w2_b": (2, 320)}
    save_file({f"{loha}.{part}": torch.ones(shape) for part, shape in pairs.items()}, path)
    for form in ("diffusers", "peft"):
        assert run(["convert", str(path), "--to", form, "--out", str(out), "--base", "sd1"]) == 4
        assert "write it in the form 'kohya', which holds everything" in capsys.readouterr().err
    assert run(["convert", str(path), "--to", "kohya", "--out", str(out), "--base", "sd1"]) == 0
    save_file(kohya(SD1), path)
    told = [
        (["--to", "peft", "--out", str(tmp_path / "peft" / "adapter_model.safetensors")], "is not there"),
        (["--to", "native", "--out", str(tmp_path / "b.safetensors")], "allowed are kohya, diffusers, peft"),
        (["--out", str(tmp_path / "b.safetensors")], "allowed are kohya, diffusers, peft"),
        (["--to", "kohya", "--out", str(tmp_path / "b.safetensors"), "--precision", "fp16"], "only models have such"),
        (["--to", "kohya", "--out", str(out)], "no file is written over"),
    ]
    for options, words in told:
        assert run(["convert", str(path), *options]) in (2, 4)
        assert words in capsys.readouterr().err
    (tmp_path / "peft").mkdir()
    assert run(["convert", str(path), "--to", "peft", "--out", str(tmp_path / "peft" / "adapter_model.safetensors")]) == 4
    assert "is for text_encoder and unet; PEFT's files hold one net" in capsys.readouterr().err
    assert not list((tmp_path / "peft").iterdir()) and not (tmp_path / "b.safetensors").exists()
