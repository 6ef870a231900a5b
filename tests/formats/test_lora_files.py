"""LoRA files: every tensor finds its layer or the file is refused, and what is written reads the same to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from undiffuse.checkpoints.lora_files import read_lora, save_lora
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch, SpecError
from undiffuse.core.random import normal
from undiffuse.model.adapters import Lora
from undiffuse.networks.lora import Decomposed, Hadamard, Kronecker, LowRank, Term, Whole
from undiffuse.networks.unet import UNet

QUERY = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
KEY = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
CONV = "lora_unet_mid_block_resnets_0_conv1"
OUR_QUERY = "down.1.stages.0.transformer.blocks.0.attend_self.to_query"
OUR_KEY = "down.1.stages.0.transformer.blocks.0.attend_cross.to_key"
OUR_CONV = "middle.0.residual.conv1"


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    with torch.device("meta"):  # names and shapes are all that counts
        net = UNet(in_channels=4, out_channels=4, widths=(32, 64), blocks=1, depths=(0, 1), heads=2, context_width=768)
    return {"unet": net}


def numbers(*shape: int, kind: torch.dtype = torch.float16) -> Tensor:
    return normal(shape, "files", *shape).to(kind)


def low_rank(layer: str, inner: int, out: int, alpha: float | None = 3.0, tail: tuple[int, ...] = ()) -> dict[str, Tensor]:
    one = (1,) * len(tail)
    found = {f"{layer}.lora_down.weight": numbers(2, inner, *tail), f"{layer}.lora_up.weight": numbers(out, 2, *one)}
    return found | ({} if alpha is None else {f"{layer}.alpha": torch.tensor(alpha, dtype=torch.float16)})


PLAIN = low_rank(QUERY, 64, 64) | low_rank(KEY, 768, 64, None) | low_rank(CONV, 64, 64, 1.0, (3, 3))
LOHA = {f"{QUERY}.hada_{name}": numbers(*shape) for name, shape in {"w1_a": (64, 2), "w1_b": (2, 64)}.items()}
LOHA |= {f"{QUERY}.hada_{name}": numbers(*shape) for name, shape in {"w2_a": (64, 2), "w2_b": (2, 64)}.items()}
LOHA_CONV = {f"{CONV}.hada_{name}": numbers(2, 64) for name in ("w1_a", "w1_b", "w2_a", "w2_b")}
LOHA_CONV |= {f"{CONV}.hada_t1": numbers(2, 2, 3, 3), f"{CONV}.hada_t2": numbers(2, 2, 3, 3) * 2}
LOKR = {f"{QUERY}.lokr_w1": numbers(4, 4), f"{QUERY}.lokr_w2_a": numbers(16, 2), f"{QUERY}.lokr_w2_b": numbers(2, 16)}
LOKR |= {f"{CONV}.lokr_w1_a": numbers(4, 2), f"{CONV}.lokr_w1_b": numbers(2, 4), f"{CONV}.lokr_w2": numbers(16, 16, 3, 3)}
TUCKER = {f"{CONV}.lora_down.weight": numbers(2, 64, 1, 1), f"{CONV}.lora_up.weight": numbers(64, 2, 1, 1)}
TUCKER |= {f"{CONV}.lora_mid.weight": numbers(2, 2, 3, 3)}
DORA = low_rank(QUERY, 64, 64) | {f"{QUERY}.dora_scale": numbers(64, 1)}
COLUMNS = low_rank(KEY, 768, 64) | {f"{KEY}.dora_scale": numbers(1, 768)}
WHOLE = {f"{QUERY}.diff": numbers(64, 64)}
FILES = {
    "LoRA": (PLAIN, LowRank),
    "LoRA with a core": (TUCKER, LowRank),
    "LoHa": (LOHA | {f"{QUERY}.alpha": torch.tensor(1.0).half()}, Hadamard),
    "LoHa with cores": (LOHA_CONV, Hadamard),
    "LoKr": (LOKR, Kronecker),
    "DoRA": (DORA, Decomposed),
    "DoRA of columns": (COLUMNS, Decomposed),
    "whole": (WHOLE, Whole),
}


def tensors_in(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def same(first: Term, second: Term) -> bool:
    if type(first) is not type(second) or getattr(first, "alpha", None) != getattr(second, "alpha", None):
        return False
    pairs = zip(first.parts().items(), second.parts().items(), strict=True)
    return all(
        a == b and (same(x, y) if isinstance(x, Term) else torch.equal(x, y) and x.dtype == y.dtype) for (a, x), (b, y) in pairs
    )


def all_same(first: Lora, second: Lora) -> bool:
    return {net: list(terms) for net, terms in first.terms.items()} == {
        net: list(terms) for net, terms in second.terms.items()
    } and all(same(term, second.terms[net][path]) for net, terms in first.terms.items() for path, term in terms.items())


@pytest.mark.parametrize("case", FILES)
def test_what_is_read_and_written_as_kohya_is_the_same_file(case: str, nets: dict[str, nn.Module], tmp_path: Path) -> None:
    tensors, kind = FILES[case]
    save_file(tensors, tmp_path / "a.safetensors", {"ss_network_dim": "2", "format": "pt"})
    lora = read_lora(tmp_path / "a.safetensors", nets)
    assert {type(term) for term in lora.terms["unet"].values()} == {kind}
    save_lora(lora, tmp_path / "b.safetensors", nets)
    written, header = tensors_in(tmp_path / "b.safetensors")
    assert {name: (t.dtype, t.tolist()) for name, t in written.items()} == {
        n: (t.dtype, t.tolist()) for n, t in tensors.items()
    }
    assert header == {"ss_network_dim": "2", "format": "pt"}


@pytest.mark.parametrize("case", ["LoRA", "DoRA"])
def test_what_is_written_as_diffusers_reads_the_same(case: str, nets: dict[str, nn.Module], tmp_path: Path) -> None:
    save_file(FILES[case][0], tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors", nets)
    save_lora(lora, tmp_path / "b.safetensors", nets, "diffusers")
    again = read_lora(tmp_path / "b.safetensors", nets)
    save_lora(again, tmp_path / "c.safetensors", nets, "kohya")
    told = {path: 2.0 if getattr(term, "alpha", 1.0) is None else None for path, term in lora.terms["unet"].items()}
    for path, term in again.terms["unet"].items():
        before = lora.terms["unet"][path]
        if told[path] is not None:  # an alpha that was not told is the rank, and so it is written
            assert isinstance(before, LowRank)
            before = LowRank(before.down, before.up, 2.0)
        assert same(term, before)


def test_layers_and_alphas_are_those_that_the_file_names(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    save_file(PLAIN, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors", nets)
    assert lora.name == "a"
    terms = lora.terms["unet"]
    assert set(terms) == {OUR_QUERY, OUR_KEY, OUR_CONV}
    assert {path: term.scale for path, term in terms.items()} == {OUR_QUERY: 1.5, OUR_KEY: 1.0, OUR_CONV: 0.5}  # type: ignore[attr-defined]
    assert torch.equal(terms[OUR_KEY].down, PLAIN[f"{KEY}.lora_down.weight"])  # type: ignore[attr-defined]


def test_pickles_are_read_as_tensors_only(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    torch.save(PLAIN, tmp_path / "a.pt")
    save_file(PLAIN, tmp_path / "a.safetensors")
    assert all_same(read_lora(tmp_path / "a.pt", nets), read_lora(tmp_path / "a.safetensors", nets))
    torch.save({"run": Path}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="nothing is ever run"):
        read_lora(tmp_path / "b.pt", nets)


def test_a_file_with_a_strange_tensor_is_refused_and_the_tensor_named(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    for strange in (
        "lora_unet_down_blocks_9_nothing.alpha",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",
        f"{QUERY}.oft_blocks",
    ):
        save_file({**PLAIN, strange: torch.ones(1)}, tmp_path / "a.safetensors")
        with pytest.raises(MissingKeys, match=f"1 of 9 tensors that have no place in this model: {strange}"):
            read_lora(tmp_path / "a.safetensors", nets)


def test_a_layer_that_is_told_twice_is_refused(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    other = QUERY.replace("lora_unet_", "unet_")
    save_file({**PLAIN, f"{other}.alpha": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(MissingKeys, match="1 of 9 tensors"):
        read_lora(tmp_path / "a.safetensors", nets)


@pytest.mark.parametrize("absent", [f"{QUERY}.lora_up.weight", f"{CONV}.lora_down.weight"])
def test_a_layer_that_is_told_in_part_is_refused(absent: str, nets: dict[str, nn.Module], tmp_path: Path) -> None:
    save_file({name: tensor for name, tensor in PLAIN.items() if name != absent}, tmp_path / "a.safetensors")
    with pytest.raises(MissingKeys, match="1 layers in part"):
        read_lora(tmp_path / "a.safetensors", nets)


def test_a_layer_of_two_kinds_is_refused(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    save_file(PLAIN | LOHA, tmp_path / "a.safetensors")
    with pytest.raises(MissingKeys, match="1 layers in part"):
        read_lora(tmp_path / "a.safetensors", nets)


XL_NAMES = low_rank("lora_unet_input_blocks_4_1_transformer_blocks_9_attn2_to_k", 2048, 640)
WRONG = {
    "by its names": (XL_NAMES, {}, MissingKeys, "made for Stable Diffusion XL, and this model is Stable Diffusion 1.x"),
    "by its header": (
        low_rank("lora_unet_strange", 4, 4),
        {"ss_base_model_version": "sd_v2_768_v"},
        MissingKeys,
        "made for Stable Diffusion 2.x, and this model is Stable Diffusion 1.x",
    ),
    "by its tokens": (low_rank(KEY, 1024, 64), {}, ShapeMismatch, "made for Stable Diffusion 2.x, and"),
    "by the model spec": (
        low_rank("lora_unet_double_blocks_0", 4, 4),
        {"modelspec.architecture": "flux-1-dev/lora"},
        MissingKeys,
        "made for FLUX",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_for_another_model_is_refused_and_that_model_named(
    case: str, nets: dict[str, nn.Module], tmp_path: Path
) -> None:
    tensors, header, error, words = WRONG[case]
    save_file(tensors, tmp_path / "a.safetensors", header)
    with pytest.raises(error, match=words):
        read_lora(tmp_path / "a.safetensors", nets)


def test_an_empty_file_a_missing_one_and_text_are_refused(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(MissingKeys, match="no tensors"):
        read_lora(tmp_path / "a.safetensors", nets)
    with pytest.raises(CheckpointError, match="is not there"):
        read_lora(tmp_path / "b.safetensors", nets)
    for name in ("c.safetensors", "c.pt"):
        (tmp_path / name).write_text("no tensors at all")
        with pytest.raises(CheckpointError):
            read_lora(tmp_path / name, nets)


@pytest.mark.parametrize("case", ["LoRA with a core", "LoHa", "LoKr", "DoRA of columns", "whole"])
def test_what_diffusers_cannot_hold_is_refused(case: str, nets: dict[str, nn.Module], tmp_path: Path) -> None:
    save_file(FILES[case][0], tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors", nets)
    for form in ("diffusers", "peft"):
        with pytest.raises(CheckpointError, match="kohya"):
            save_lora(lora, tmp_path / "adapter_model.safetensors", nets, form)
    with pytest.raises(SpecError, match="there are: diffusers, kohya, peft"):
        save_lora(lora, tmp_path / "b.safetensors", nets, "compvis")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_hash_is_the_one_that_other_programs_know_the_file_by(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "a.safetensors"
    save_file(PLAIN, path, {"ss_output_name": "fox"})
    data = path.read_bytes()
    body = data[8 + int.from_bytes(data[:8], "little") :]
    assert read_lora(path, nets).hash == hashlib.sha256(body).hexdigest()
    save_file(PLAIN, path, {"sshs_model_hash": "abc"})
    assert read_lora(path, nets).hash == "abc"


def test_damaged_settings_of_peft_are_refused(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    tensors = {"unet.mid_block.resnets.0.conv1.lora_A.weight": numbers(2, 64, 3, 3)}
    tensors |= {"unet.mid_block.resnets.0.conv1.lora_B.weight": numbers(64, 2, 1, 1)}
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": "{"})
    with pytest.raises(CheckpointError, match="settings"):
        read_lora(tmp_path / "a.safetensors", nets)
