"""Tensor files: what every storage form keeps, and that nothing is loaded in part."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from undiffuse.checkpoints.headers import SCALE, SCALES4, SHAPE4
from undiffuse.checkpoints.tensors import GROUP, load_into, load_tensors, quantize, save_tensors
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch, SpecError
from undiffuse.core.random import normal


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {
        "kernel": normal((6, 4, 3, 3), "tensors", "kernel"),
        "matrix": normal((5, 7), "tensors", "matrix") * torch.logspace(-6, 2, 5)[:, None],
        "bias": normal((5,), "tensors", "bias"),
        "ids": torch.arange(3),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))


def test_fp32_comes_back_bit_for_bit(tensors: dict[str, Tensor], path: Path) -> None:
    save_tensors(tensors, path)
    loaded = load_tensors(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_fp16_is_off_by_half_a_unit_in_the_last_place(tensors: dict[str, Tensor], path: Path) -> None:
    save_tensors(tensors, path, "fp16")
    loaded = load_tensors(path)
    for name in ("kernel", "matrix", "bias"):
        bound = tensors[name].abs() * 2**-11 + 2**-25  # the second term where fp16 has no normal numbers
        assert loaded[name].dtype == torch.float32
        assert ((loaded[name] - tensors[name]).abs() <= bound).all()


def test_int8_is_off_by_half_a_step_of_its_row(tensors: dict[str, Tensor], path: Path) -> None:
    save_tensors(tensors, path, "int8")
    loaded = load_tensors(path)
    for name in ("kernel", "matrix"):
        error = (loaded[name] - tensors[name]).flatten(1).abs().amax(1)
        largest = tensors[name].flatten(1).abs().amax(1)
        assert (error <= largest / 254 * 1.0001).all()
    assert (loaded["bias"] - tensors["bias"]).abs().max() <= tensors["bias"].abs().max() * 2**-11
    assert torch.equal(loaded["ids"], tensors["ids"])


def test_int8_takes_a_byte_a_weight_and_a_scale_a_row(tensors: dict[str, Tensor], path: Path) -> None:
    save_tensors(tensors, path, "int8")
    stored = load_file(path)
    assert stored["kernel"].dtype == stored["matrix"].dtype == torch.int8
    assert stored["kernel" + SCALE].shape == (6,)
    assert stored["bias"].dtype == torch.float16


@pytest.mark.parametrize("shape", [(6, 200), (3, 5, 3, 3), (2, 1), (4, 64)])
def test_int4_is_off_by_half_a_step_of_its_group(shape: tuple[int, ...], path: Path) -> None:
    weight = normal(shape, "int4")
    save_tensors({"weight": weight, "bias": normal((5,), "bias"), "ids": torch.arange(3)}, path, "int4")
    loaded = load_tensors(path)
    assert loaded["weight"].shape == shape and torch.equal(loaded["ids"], torch.arange(3))
    errors, rows = (loaded["weight"] - weight).flatten(1), weight.flatten(1)
    for error, group in zip(errors.split(GROUP, dim=1), rows.split(GROUP, dim=1), strict=True):
        assert (error.abs().amax(1) <= group.abs().amax(1) / 14 * 1.002).all()  # fp16 scales add a little


def test_int4_takes_half_a_byte_a_weight_and_a_scale_a_group(path: Path) -> None:
    save_tensors({"weight": normal((6, 200), "int4")}, path, "int4")
    stored = load_file(path)
    assert stored["weight"].shape == (6, 128) and stored["weight"].dtype == torch.uint8
    assert stored["weight" + SCALES4].shape == (6, 4)


def test_int4_without_its_shape_is_refused(path: Path) -> None:
    save_tensors({"weight": normal((6, 200), "int4")}, path, "int4")
    stored = load_file(path)
    del stored["weight" + SHAPE4]
    save_file(stored, path)
    with pytest.raises(CheckpointError, match="each int4 tensor needs its scales and its shape"):
        load_tensors(path)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20))
def test_no_weight_is_off_by_more_than_half_a_scale(row: list[float]) -> None:
    weight = torch.tensor([row])
    q, scale = quantize(weight)
    error = (q.double() * scale.double()[:, None] - weight.double()).abs().max()
    assert error <= scale.double() * 0.50001


def test_a_row_of_zeros_stays_zero() -> None:
    q, scale = quantize(torch.zeros(2, 3))
    assert not q.any()
    assert scale.isfinite().all()


def test_weights_that_share_memory_or_lie_channels_last_are_stored(path: Path) -> None:
    kernel = normal((4, 3, 2, 2), "tensors").to(memory_format=torch.channels_last)
    save_tensors({"kernel": kernel, "part": normal((4, 4), "tensors", "part")[:, :2]}, path)
    assert torch.equal(load_tensors(path)["kernel"], kernel)


@pytest.mark.parametrize("form", ["fp16", "int8"])
@pytest.mark.parametrize("shape", [(2,), (2, 2)])
def test_numbers_that_a_form_cannot_hold_are_refused(path: Path, form: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match="w holds NaN, infinity or numbers beyond the range"):
        save_tensors({"w": torch.full(shape, float("inf"))}, path, form)
    assert not path.exists()


def test_an_unknown_form_is_refused(path: Path) -> None:
    with pytest.raises(SpecError, match="unknown storage form 'int3'; there are: bf16, fp16, fp32, int4, int8, kept"):
        save_tensors({}, path, "int3")


def test_everybody_may_read_the_file(tensors: dict[str, Tensor], path: Path) -> None:
    save_tensors(tensors, path)
    assert path.stat().st_mode & 0o444 == 0o444


def test_missing_and_left_over_names_are_listed_and_nothing_is_loaded(path: Path) -> None:
    module = net()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    save_tensors({"0.weight": torch.ones(2, 3), "1.bias": torch.ones(1), "2.bias": torch.ones(1)}, path)
    with pytest.raises(MissingKeys, match=r"lacks 0\.bias, 1\.weight and has 2\.bias too many"):
        load_into(module, path)
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_other_shapes_are_listed_and_nothing_is_loaded(path: Path) -> None:
    module = net()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    other = {name: torch.ones_like(weight) for name, weight in before.items()}
    save_tensors(other | {"1.weight": torch.ones(1, 3), "1.bias": torch.ones(2)}, path)
    with pytest.raises(ShapeMismatch, match=r"1\.weight \(1, 3\) for \(1, 2\), 1\.bias \(2,\) for \(1,\)"):
        load_into(module, path)
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_long_lists_of_names_are_cut(path: Path) -> None:
    save_tensors({f"w{i:02}": torch.ones(1) for i in range(20)}, path)
    with pytest.raises(MissingKeys, match=r"w07 and 12 more too many"):
        load_into(net(), path)


@pytest.mark.parametrize("lonely", ["w", "w" + SCALE])
def test_int8_without_scales_and_scales_without_int8_are_refused(path: Path, lonely: str) -> None:
    both = {"w": torch.ones(2, 2, dtype=torch.int8), "w" + SCALE: torch.ones(2)}
    save_file({lonely: both[lonely]}, path)
    with pytest.raises(CheckpointError, match="int8 weights without scales, or scales without weights: w"):
        load_tensors(path)


@pytest.mark.parametrize("kind", ["absent", "cut short", "pickle", "empty"])
def test_a_file_that_is_no_safetensors_file_is_refused(tensors: dict[str, Tensor], path: Path, kind: str) -> None:
    save_tensors(tensors, path)
    whole = path.read_bytes()
    contents = {"cut short": whole[: len(whole) // 2], "pickle": pickle.dumps({"w": 1}), "empty": b""}
    path.unlink()
    if kind in contents:
        path.write_bytes(contents[kind])
    with pytest.raises(CheckpointError, match=r"net\.safetensors cannot be read .*; a safetensors file is needed"):
        load_tensors(path)
