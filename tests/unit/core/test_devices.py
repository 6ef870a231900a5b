"""Device and precision are chosen by what the machine has, or refused by name."""

from __future__ import annotations

import os
import weakref

import pytest
import torch

from undiffuse.core import devices
from undiffuse.core.devices import (
    available_devices,
    choose_device,
    choose_precision,
    describe,
    give_back,
    has_native_bf16,
    keep_freed_memory,
    short_dtype,
)
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
def test_bf16_is_chosen_only_where_the_hardware_has_it(
    native: bool, chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
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


class Libc:
    """A C library that remembers what mallopt was told, and refuses thresholds above `most`."""

    def __init__(self, most: int = 2**31) -> None:
        self.most = most
        self.set: dict[int, int] = {}

    def mallopt(self, option: int, value: int) -> int:
        assert -(2**31) <= value < 2**31, "a C int"
        if option == M_MMAP_THRESHOLD and value > self.most:
            return 0
        self.set[option] = value
        return 1


M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD = -3, -1, -2  # malloc.h


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nobody has tuned the allocator."""
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return monkeypatch


def with_libc(libc: Libc, version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(os, "confstr", lambda name: version, raising=False)


def test_freed_memory_is_kept_and_asking_again_changes_nothing(untouched: pytest.MonkeyPatch) -> None:
    libc = Libc()
    with_libc(libc, "glibc 2.36", untouched)

    assert keep_freed_memory()
    once = dict(libc.set)
    assert keep_freed_memory()

    assert libc.set == once
    assert once[M_MMAP_THRESHOLD] == 2**30
    assert once[M_TRIM_THRESHOLD] > once[M_MMAP_THRESHOLD]
    assert once[M_TOP_PAD] == 64 * 2**20


def test_an_old_glibc_gets_the_most_that_it_allows(untouched: pytest.MonkeyPatch) -> None:
    libc = Libc(most=32 * 2**20)
    with_libc(libc, "glibc 2.31", untouched)

    assert keep_freed_memory()
    assert libc.set[M_MMAP_THRESHOLD] == 32 * 2**20


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "0"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1")],
)
def test_whoever_tunes_the_allocator_by_hand_is_left_alone(name: str, value: str, untouched: pytest.MonkeyPatch) -> None:
    libc = Libc()
    with_libc(libc, "glibc 2.36", untouched)
    untouched.setenv(name, value)

    assert not keep_freed_memory()
    assert libc.set == {}


def test_tunables_of_other_parts_do_not_matter(untouched: pytest.MonkeyPatch) -> None:
    with_libc(Libc(), "glibc 2.36", untouched)
    untouched.setenv("GLIBC_TUNABLES", "glibc.rtld.nns=4")

    assert keep_freed_memory()


@pytest.mark.parametrize("version", [None, "musl 1.2"])
def test_another_c_library_is_left_alone(version: str | None, untouched: pytest.MonkeyPatch) -> None:
    libc = Libc()
    with_libc(libc, version, untouched)

    assert not keep_freed_memory()
    assert libc.set == {}


def test_a_system_without_the_names_is_left_alone(untouched: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    with_libc(Libc(), "glibc 2.36", untouched)
    untouched.setattr(os, "confstr", unknown)
    assert not keep_freed_memory()
    untouched.delattr(os, "confstr")
    assert not keep_freed_memory()


def test_it_can_be_called_for_real_and_tensors_still_work() -> None:
    assert keep_freed_memory() == keep_freed_memory()
    assert torch.ones(300, 300).sum() == 90_000


def test_what_only_holds_itself_is_given_back() -> None:
    class Ring:
        itself: object

    ring = Ring()
    ring.itself, seen = ring, weakref.ref(ring)
    del ring
    give_back()
    assert seen() is None
