"""Device and precision are chosen by what the machine has, or refused by name."""

from __future__ import annotations

import pytest
import torch

from undiffuse.core import devices
from undiffuse.core.devices import available_devices, choose_device, choose_precision, describe, has_native_bf16, short_dtype
from undiffuse.core.errors import DeviceError

CPU = torch.device("cpu")


def test_the_fastest_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["mps", "cpu"])

    assert choose_device() == choose_device("auto") == torch.device("mps")
    assert choose_device("cpu") == CPU


def test_the_cpu_is_always_there() -> None:
    assert available_devices()[-1] == "cpu"


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "tpu", "nonsense"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu"])

    with pytest.raises(DeviceError, match=f"'{name}'.*this machine has: cpu"):
        choose_device(name)


@pytest.mark.parametrize(("native", "chosen"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bf16_is_chosen_only_where_the_hardware_has_it(native: bool, chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_native_bf16", lambda device: native)

    assert choose_precision(CPU) == choose_precision(CPU, "auto") == chosen


def test_instructions_alone_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)

    assert not has_native_bf16(CPU)


def test_names_of_precisions() -> None:
    assert choose_precision(CPU, "bf16") == choose_precision(CPU, "bfloat16") == torch.bfloat16
    assert short_dtype(torch.bfloat16) == "bf16"
    with pytest.raises(DeviceError, match="unknown precision 'fp8'; allowed are auto, fp32"):
        choose_precision(CPU, "fp8")


def test_the_description_is_one_line() -> None:
    assert describe(CPU, torch.float32).startswith("cpu (")
    assert "\n" not in describe()
