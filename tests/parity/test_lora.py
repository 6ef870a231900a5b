"""LoRA files in the forms that people share, made here, against diffusers with PEFT reading the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from undiffuse.checkpoints.keys.clip import from_huggingface
from undiffuse.checkpoints.keys.unet import unet_names
from undiffuse.checkpoints.lora_files import read_lora, save_lora
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import normal
from undiffuse.model.adapters import Lora
from undiffuse.networks.added import Added
from undiffuse.networks.lora import Decomposed, LowRank
from undiffuse.networks.text.clip import CLIPTextEncoder
from undiffuse.networks.unet import UNet

TOKENS = 24
X, T = normal((2, 4, 8, 8), "lora", "x"), torch.tensor([3.0, 981.0])
WORDS, POOLED = normal((2, 5, TOKENS), "lora", "words"), normal((2, 16), "lora", "pooled")
IDS = torch.tensor([[512, 640, 0, 7, 1024, 1024]] * 2)
SD1: dict[str, Any] = {
    "ours": {"widths": (64, 128), "depths": (1, 0), "heads": 8},
    "theirs": {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 8,
    },
}
XL: dict[str, Any] = {
    "ours": {"widths": (64, 128), "depths": (0, 2), "head_width": 16, "linear_projection": True, "vector_width": 64},
    "theirs": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (4, 8),
        "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
    },
}
EVERY_LAYER = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut", "conv_in", "conv_out", "downsamplers.0.conv", "upsamplers.0.conv"]
EMBEDDINGS = ["time_emb_proj", "time_embedding.linear_1", "time_embedding.linear_2"]


def pair(case: dict[str, Any]) -> tuple[UNet, UNet2DConditionModel]:
    """The oracle with random numbers in every tensor, and our net with the same."""
    oracle = UNet2DConditionModel(block_out_channels=(64, 128), cross_attention_dim=TOKENS, **case["theirs"]).eval()
    with torch.no_grad():
        for name, weight in oracle.named_parameters():
            noise = normal(weight.shape, "lora", name) * 0.1
            weight.copy_(1 + noise if "norm" in name and name.endswith("weight") else noise)
    ours = UNet(in_channels=4, out_channels=4, context_width=TOKENS, **case["ours"]).eval()
    names = unet_names(ours.state_dict(), {"blocks": 2, "mid_depth": None, **case["ours"]}, "diffusers")
    ours.load_state_dict({name: oracle.state_dict()[theirs] for name, theirs in names.items()})
    return ours, oracle


def lora_on(oracle: UNet2DConditionModel, targets: list[str], alpha: int = 3, **options: Any) -> LoraConfig:
    """Give the oracle a LoRA with numbers in all its factors."""
    config = LoraConfig(r=2, lora_alpha=alpha, target_modules=targets, init_lora_weights=False, **options)
    oracle.add_adapter(config)
    with torch.no_grad():
        for name, weight in oracle.named_parameters():
            if "lora_magnitude" in name:
                weight.mul_(1.5)
            elif "lora_" in name:
                weight.copy_(normal(weight.shape, "lora", "factor", name) * 0.2)
    return config


@torch.no_grad()
def predicted(net: UNet) -> Tensor:
    vector = torch.cat([POOLED, sinusoids()], dim=1) if net.embed_vector is not None else None
    return net(X, T, Conditioning(tokens=WORDS, vector=vector))


def sinusoids() -> Tensor:
    from undiffuse.networks.embeddings import sinusoid

    return sinusoid(IDS.flatten(), 8).view(2, -1)


@torch.no_grad()
def expected(oracle: UNet2DConditionModel) -> Tensor:
    return oracle(X, T, WORDS, added_cond_kwargs={"text_embeds": POOLED, "time_ids": IDS}).sample


def far(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def wear(net: UNet, path: Path, weight: float = 1.0) -> Added:
    lora = read_lora(path, {"unet": net})
    added = Added(net)
    added.attach(lora.name, lora.terms["unet"], weight)
    return added


CASES = [
    (SD1, [*EVERY_LAYER, *CONVOLUTIONS, *EMBEDDINGS]),
    (XL, [*EVERY_LAYER, *CONVOLUTIONS, *EMBEDDINGS]),
    (SD1, ["to_q", "to_v"]),
]


@pytest.mark.parametrize(("case", "targets"), CASES, ids=["SD 1.x", "XL", "two layers"])
def test_diffusers_files_equal_the_oracle(case: dict[str, Any], targets: list[str], tmp_path: Path) -> None:
    ours, oracle = pair(case)
    plain = expected(oracle)
    config = lora_on(oracle, targets)
    state = get_peft_model_state_dict(oracle)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=state, unet_lora_adapter_metadata=config.to_dict(), weight_name="a.safetensors"
    )
    assert far(predicted(ours), plain) <= 1e-5
    wear(ours, tmp_path / "a.safetensors")
    assert far(plain, expected(oracle)) > 1e-2
    assert far(predicted(ours), expected(oracle)) <= 1e-5


@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_kohya_files_with_the_names_of_diffusers_equal_the_oracle(weight: float, tmp_path: Path) -> None:
    ours, oracle = pair(SD1)
    lora_on(oracle, [*EVERY_LAYER, *CONVOLUTIONS])
    state = {f"unet.{name}": value.clone() for name, value in get_peft_model_state_dict(oracle).items()}
    kohya = {name.replace("unet_unet", "unet"): value for name, value in convert_state_dict_to_kohya(state).items()}
    layers = {name.split(".")[0] for name in kohya}
    kohya |= {f"{layer}.alpha": torch.tensor(3.0) for layer in layers}
    assert all(name.startswith("lora_unet_") for name in kohya)
    save_file(kohya, tmp_path / "a.safetensors")
    wear(ours, tmp_path / "a.safetensors", weight)
    oracle.set_adapters("default", weight)
    assert far(predicted(ours), expected(oracle)) <= 1e-5


@pytest.mark.parametrize("case", [SD1, XL], ids=["SD 1.x", "XL"])
@pytest.mark.parametrize("form", ["kohya", "diffusers"])
def test_diffusers_reads_what_we_write(case: dict[str, Any], form: str, tmp_path: Path) -> None:
    ours, oracle = pair(case)
    config = lora_on(oracle, [*EVERY_LAYER, *CONVOLUTIONS, *EMBEDDINGS, "add_embedding.linear_1"], alpha_pattern={"conv1": 5})
    state = get_peft_model_state_dict(oracle)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=state, unet_lora_adapter_metadata=config.to_dict(), weight_name="a.safetensors"
    )
    after = expected(oracle)
    nets: dict[str, nn.Module] = {"unet": ours}
    save_lora(read_lora(tmp_path / "a.safetensors", nets), tmp_path / "b.safetensors", nets, form)
    names = list(load_file(tmp_path / "b.safetensors"))
    assert any("input_blocks" in name for name in names) == (case is XL and form == "kohya")
    _, fresh = pair(case)
    options = {"unet_config": fresh.config, "return_lora_metadata": True}
    pipeline = StableDiffusionXLPipeline if case is XL else StableDiffusionPipeline
    read, alphas, settings = pipeline.lora_state_dict(str(tmp_path), weight_name="b.safetensors", **options)
    pipeline.load_lora_into_unet(read, alphas, fresh, metadata=settings)
    assert far(expected(fresh), after) <= 1e-6


def test_files_of_the_old_attention_processors_equal_the_oracle(tmp_path: Path) -> None:
    ours, oracle = pair(SD1)
    lora_on(oracle, ["to_q", "to_k", "to_v", "to_out.0"], alpha=2)
    old = {}
    for name, value in get_peft_model_state_dict(oracle).items():
        name = (
            name.replace(".to_out.0.", ".to_out.").replace("attn1.", "attn1.processor.").replace("attn2.", "attn2.processor.")
        )
        old[f"unet.{name}".replace(".lora_A.", "_lora.down.").replace(".lora_B.", "_lora.up.")] = value.contiguous()
    assert "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight" in old
    save_file(old, tmp_path / "a.safetensors")
    wear(ours, tmp_path / "a.safetensors")
    assert far(predicted(ours), expected(oracle)) <= 1e-5


@pytest.mark.parametrize(
    "options", [{}, {"use_rslora": True}, {"use_dora": True}, {"alpha_pattern": {"attn1.to_q": 7}}], ids=str
)
def test_folders_of_peft_equal_the_oracle(options: dict[str, Any], tmp_path: Path) -> None:
    ours, oracle = pair(SD1)
    config = LoraConfig(r=2, lora_alpha=3, target_modules=[*EVERY_LAYER, *CONVOLUTIONS], init_lora_weights=False, **options)
    wrapped = get_peft_model(oracle, config)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_magnitude" in name:
                weight.mul_(1.5)
    wrapped.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_alpha"] == 3
    wear(ours, tmp_path / "adapter_model.safetensors")
    assert far(predicted(ours), expected(oracle)) <= 1e-5


def clip_pair(width: int) -> tuple[CLIPTextEncoder, CLIPTextModel]:
    sizes = {"vocab_size": 20, "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": 2}
    oracle = CLIPTextModel(CLIPTextConfig(**sizes, num_attention_heads=2, bos_token_id=1, eos_token_id=2)).eval()
    with torch.no_grad():
        for name, weight in oracle.named_parameters():
            weight.add_(normal(weight.shape, "lora", name) * 0.2)
    ours = CLIPTextEncoder(vocabulary=20, width=width, layers=2, heads=2, hidden=3 * width).eval()
    ours.load_state_dict(from_huggingface(oracle.state_dict()))
    return ours, oracle


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
@pytest.mark.parametrize("form", ["diffusers", "kohya", "PEFT"])
@torch.no_grad()
def test_text_encoders_equal_the_oracle(form: str, tmp_path: Path) -> None:
    pairs = {"text_encoder": clip_pair(8), "text_encoder_2": clip_pair(12)}
    if form == "PEFT":
        del pairs["text_encoder_2"]  # its files are for one net
    states, settings = {}, {}
    for number, (name, (_, oracle)) in enumerate(pairs.items()):
        targets = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
        config = LoraConfig(r=2 + number, lora_alpha=3, target_modules=targets, init_lora_weights=False)
        if form == "PEFT":
            get_peft_model(oracle, config).save_pretrained(tmp_path)
            continue
        oracle.add_adapter(config)
        states[name], settings[name] = get_peft_model_state_dict(oracle, adapter_name="default"), config.to_dict()
    file = tmp_path / ("adapter_model.safetensors" if form == "PEFT" else "pytorch_lora_weights.safetensors")
    if form == "diffusers":
        StableDiffusionXLPipeline.save_lora_weights(
            tmp_path,
            text_encoder_lora_layers=states["text_encoder"],
            text_encoder_2_lora_layers=states["text_encoder_2"],
            text_encoder_lora_adapter_metadata=settings["text_encoder"],
            text_encoder_2_lora_adapter_metadata=settings["text_encoder_2"],
        )
    elif form == "kohya":
        write_kohya(states, file)
    terms = read_lora(file, {name: ours for name, (ours, _) in pairs.items()}).terms
    ids = torch.tensor([[1, 7, 19, 4, 2]])
    for name, (ours, oracle) in pairs.items():
        plain, expected = ours(ids).tokens, oracle(ids).last_hidden_state
        Added(ours).attach("a", terms[name])
        assert far(plain, expected) > 1e-2
        assert far(ours(ids).tokens, expected) <= 1e-5


def test_diffusers_reads_what_we_write_for_text_encoders(tmp_path: Path) -> None:
    (ours, oracle), (_, fresh) = clip_pair(8), clip_pair(8)
    fresh.load_state_dict(oracle.state_dict())
    layers = dict(ours.named_modules())
    terms = {}
    for number, path in enumerate(["layers.0.attend.to_query", "layers.1.feed.widen", "layers.1.attend.to_out"]):
        out, inner = layers[path].weight.shape  # type: ignore[union-attr]
        terms[path] = LowRank(normal((2, inner), "lora", path), normal((out, 2), "lora", path, "up"), 1.0 + number)
    nets = {"text_encoder": ours}
    save_lora(Lora("a", {"text_encoder": terms}), tmp_path / "a.safetensors", nets, "diffusers")
    Added(ours).attach("a", terms)
    options = {"weight_name": "a.safetensors", "return_lora_metadata": True}
    read, alphas, settings = StableDiffusionPipeline.lora_state_dict(str(tmp_path), **options)
    StableDiffusionPipeline.load_lora_into_text_encoder(read, alphas, fresh, prefix="text_encoder", metadata=settings)
    ids = torch.tensor([[1, 7, 19, 4, 2]])
    with torch.no_grad():
        assert far(ours(ids).tokens, fresh(ids).last_hidden_state) <= 1e-5


def write_kohya(states: dict[str, dict[str, Tensor]], path: Path) -> None:
    """What kohya's trainer calls the layers of two text encoders."""
    tensors: dict[str, Tensor] = {}
    for prefix, state in zip(("lora_te1", "lora_te2"), states.values(), strict=True):
        for name, value in state.items():
            layer, _, part = name.partition(".lora_")
            layer = f"{prefix}_text_model_{layer.removeprefix('text_model.').replace('.', '_')}"
            ending = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}[part]
            tensors |= {f"{layer}.{ending}": value.clone(), f"{layer}.alpha": torch.tensor(3.0)}
    save_file(tensors, path)


@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
def test_what_we_write_for_peft_it_reads(dora: bool, tmp_path: Path) -> None:
    ours, oracle = pair(SD1)
    layers = {name: module for name, module in ours.named_modules() if isinstance(module, nn.Linear) and "attend" in name}
    assert layers
    terms: dict[str, Any] = {}
    for number, (name, layer) in enumerate(layers.items()):
        down, up = (
            normal((2, layer.in_features), "peft", name) * 0.2,
            normal((layer.out_features, 2), "peft", name, "up") * 0.2,
        )
        term = LowRank(down, up, alpha=3.0 if number else 0.5)
        terms[name] = Decomposed(term, layer.weight.detach().norm(dim=1, keepdim=True) * 1.5) if dora else term
    path = tmp_path / "adapter_model.safetensors"
    save_lora(Lora("fox", {"unet": terms}), path, {"unet": ours}, "peft")

    theirs = PeftModel.from_pretrained(oracle, tmp_path)
    wear(ours, path)

    assert far(predicted(ours), expected(theirs)) <= 1e-5
