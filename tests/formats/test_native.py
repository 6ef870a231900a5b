"""Our own folder: what is saved comes back, and a folder that is not whole or not ours is refused by name."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from undiffuse.checkpoints import api, native
from undiffuse.checkpoints.api import find_folder, load_codec, load_model, save_model
from undiffuse.checkpoints.native import save_codec
from undiffuse.conditioners.text import TextConditioner
from undiffuse.conditioners.thesaurus import Thesaurus
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch, SpecError, UnknownFormat
from undiffuse.core.random import normal
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import CodecSpec, LatentSpec
from undiffuse.networks.autoencoder import Autoencoder

FILES = {"spec.json", "tokenizer.json", "autoencoder.safetensors", "denoiser.safetensors", "conditioner.safetensors"}
ROWS = [{"caption": "a fox", "label": "boat"}, {}]


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder of the tiny model that may be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def weights(model: LatentDiffusion) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": w for part, net in model.parts().items() for name, w in net.state_dict().items()}


def edit_spec(folder: Path, **changes: Any) -> None:
    spec = json.loads((folder / "spec.json").read_text()) | changes
    (folder / "spec.json").write_text(json.dumps({key: value for key, value in spec.items() if value is not None}))


def test_a_model_comes_back_bit_for_bit(tiny_model: LatentDiffusion, tiny_folder: Path) -> None:
    loaded = load_model(tiny_folder)
    assert {path.name for path in tiny_folder.iterdir()} == FILES
    assert loaded.spec == tiny_model.spec
    assert loaded.fingerprint == tiny_model.fingerprint
    assert weights(loaded).keys() == weights(tiny_model).keys()
    assert all(torch.equal(w, weights(tiny_model)[name]) for name, w in weights(loaded).items())
    assert not any(net.training for net in loaded.parts().values())


def test_a_loaded_model_reads_captions_and_labels_as_before(tiny_model: LatentDiffusion, tiny_folder: Path) -> None:
    before, after = tiny_model.conditioner(ROWS).slots(), load_model(tiny_folder).conditioner(ROWS).slots()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def reading_others(tiny_model: LatentDiffusion, tmp_path: Path) -> Path:
    """A folder of the tiny model that reads a word as another."""
    text, label = tiny_model.spec.conditioners
    part = tiny_model.conditioner.parts[0]
    assert isinstance(part, TextConditioner)
    spec = tiny_model.spec.model_copy(update={"conditioners": (text.model_copy(update={"thesaurus": True}), label)})
    model = build_model(spec, part.tokenizer)
    model.conditioner.parts[0].thesaurus = Thesaurus({"vixen": "fox", "ship": "boat", "reynard": "fox"})
    save_model(model, tmp_path / "reading")
    return tmp_path / "reading"


def test_a_thesaurus_comes_back_and_tells_models_apart(reading_others: Path) -> None:
    model = load_model(reading_others)
    assert model.conditioner.parts[0].thesaurus == Thesaurus({"vixen": "fox", "ship": "boat", "reynard": "fox"})
    lines = (reading_others / "thesaurus.json").read_text().splitlines()
    assert lines == ["{", '"boat": ["ship"],', '"fox": ["reynard", "vixen"]', "}"]
    before = model.fingerprint
    model.conditioner.parts[0].thesaurus = Thesaurus({"vixen": "boat"})
    assert model.fingerprint != before
    model.conditioner.parts[0].thesaurus = None
    save_model(model, reading_others)
    assert {path.name for path in reading_others.iterdir()} == FILES


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"fox": 1}', '{"fox": [1]}', '{"fox": "ab"}', '{"fox": ["a"], "boat": ["A"]}']
)
def test_a_thesaurus_that_is_missing_or_broken_is_told(reading_others: Path, content: str | None) -> None:
    path = reading_others / "thesaurus.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(
        CheckpointError, match=r"thesaurus\.json cannot be read: .*mend it, or copy the whole model folder again"
    ):
        load_model(reading_others)


@pytest.mark.parametrize(("form", "bound"), [("fp16", 2**-11), ("int8", 1 / 254)])
def test_shorter_forms_stay_near_the_weights(tiny_model: LatentDiffusion, tmp_path: Path, form: str, bound: float) -> None:
    save_model(tiny_model, tmp_path / "model", dict.fromkeys(tiny_model.parts(), form))
    loaded = weights(load_model(tmp_path / "model"))
    for name, weight in weights(tiny_model).items():
        rows, kept = (w.reshape(len(w), -1) for w in (weight, loaded[name]))
        assert loaded[name].dtype == torch.float32
        assert ((rows - kept).abs().amax(1) <= rows.abs().amax(1) * bound * 1.0001 + 2**-25).all(), name


def test_each_part_has_its_own_form(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    save_model(tiny_model, tmp_path / "model", {"autoencoder": "fp16", "denoiser": "int8"})
    kinds = {
        part: {tensor.dtype for tensor in load_file(tmp_path / "model" / f"{part}.safetensors").values()}
        for part in tiny_model.parts()
    }
    assert kinds["autoencoder"] == {torch.float16}
    assert kinds["denoiser"] == {torch.int8, torch.float16, torch.float32}  # weights, vectors, scales
    assert kinds["conditioner"] == {torch.float32}


@pytest.mark.parametrize("formats", [{"unet": "fp16"}, {"denoiser": "int3"}])
def test_unknown_parts_and_forms_are_refused_and_nothing_is_written(
    tiny_model: LatentDiffusion, tmp_path: Path, formats: dict[str, str]
) -> None:
    with pytest.raises(SpecError, match="there are: "):
        save_model(tiny_model, tmp_path / "model", formats)
    assert not list(tmp_path.iterdir())


def test_a_save_that_fails_leaves_the_old_model(
    tiny_model: LatentDiffusion, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(tensors: dict[str, torch.Tensor], path: Path, form: str = "fp32") -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    monkeypatch.setattr(native, "save_tensors", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_model(tiny_model, copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["model"]


def test_a_model_without_a_conditioner_replaces_one_with(tiny_model: LatentDiffusion, copy: Path) -> None:
    codec = CodecSpec(autoencoder=tiny_model.spec.codec.autoencoder)
    autoencoder = tiny_model.codec.autoencoder
    assert isinstance(autoencoder, Autoencoder)
    save_codec(autoencoder, codec, copy)
    assert {path.name for path in copy.iterdir()} == {"spec.json", "autoencoder.safetensors"}


def test_the_card_is_written(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    save_model(tiny_model, tmp_path / "model", card="# tiny\n")
    assert (tmp_path / "model" / "README.md").read_text() == "# tiny\n"


def test_a_codec_comes_back_with_its_normalisation(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    latent = LatentSpec(shift=(0.1, -2.0, 3.5, 1 / 3), scale=(1.5, 0.25, 1 / 7, 2.0))
    spec = CodecSpec(autoencoder=tiny_model.spec.codec.autoencoder, latent=latent)
    autoencoder = tiny_model.codec.autoencoder
    assert isinstance(autoencoder, Autoencoder)
    save_codec(autoencoder, spec, tmp_path / "codec")
    codec, read = load_codec(tmp_path / "codec")
    assert read == spec
    x = normal((1, 3, 8, 8), "native")
    mean, _ = autoencoder.encode(x)
    shift, scale = (torch.tensor(values).view(1, 4, 1, 1) for values in (latent.shift, latent.scale))
    torch.testing.assert_close(codec.encode(x), (mean - shift) * scale)
    assert not any(parameter.requires_grad for parameter in codec.parameters())


def test_the_codec_of_a_whole_model_is_read_alone(tiny_model: LatentDiffusion, copy: Path) -> None:
    (copy / "denoiser.safetensors").unlink()
    codec, spec = load_codec(copy)
    assert spec == tiny_model.spec.codec
    assert torch.equal(
        codec.autoencoder.state_dict()["encoder.last.bias"], weights(tiny_model)["autoencoder.encoder.last.bias"]
    )


def test_a_codec_is_no_model(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    autoencoder = tiny_model.codec.autoencoder
    assert isinstance(autoencoder, Autoencoder)
    save_codec(autoencoder, tiny_model.spec.codec, tmp_path)
    with pytest.raises(CheckpointError, match="holds an autoencoder only; a whole model is needed"):
        load_model(tmp_path)


def test_a_run_is_named_by_its_folder(copy: Path) -> None:
    assert find_folder(copy.parent) == find_folder(str(copy)) == copy


@pytest.mark.parametrize("name", ["autoencoder", "denoiser", "conditioner"])
def test_missing_left_over_and_misshapen_tensors_are_listed(copy: Path, name: str) -> None:
    path = copy / f"{name}.safetensors"
    whole = load_file(path)
    first, *rest = sorted(whole)
    save_file({**{key: whole[key] for key in rest}, "stranger": torch.ones(1)}, path)
    with pytest.raises(MissingKeys, match=rf"{name}\.safetensors lacks {first} and has stranger too many"):
        load_model(copy)
    save_file({**whole, first: torch.ones(7, 7, 7)}, path)
    with pytest.raises(ShapeMismatch, match=rf"{first} \(7, 7, 7\) for "):
        load_model(copy)


@pytest.mark.parametrize("name", sorted(FILES - {"spec.json"}))
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(
        CheckpointError, match=name.replace(".", r"\.") if name != "tokenizer.json" else "no tokenizer at .*model"
    ):
        load_model(copy)


@pytest.mark.parametrize("name", sorted(FILES - {"spec.json"}))
def test_a_file_cut_short_is_refused(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError):
        load_model(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"name": "no format"}', "\x00\x01"])
def test_a_spec_that_is_not_ours_is_refused(copy: Path, content: str) -> None:
    (copy / "spec.json").write_text(content)
    with pytest.raises(UnknownFormat, match=r"is not in our format; a folder with spec\.json is needed"):
        load_model(copy)


def test_a_later_format_asks_for_an_update(copy: Path) -> None:
    edit_spec(copy, format="undiffuse-model/9")
    with pytest.raises(
        UnknownFormat, match=r"of format 'undiffuse-model/9'; this version reads undiffuse-model/1 .*; update undiffuse"
    ):
        load_model(copy)


def test_wrong_values_of_a_spec_are_told_with_file_and_place(copy: Path) -> None:
    edit_spec(copy, prediction="epsilon", flavour="sweet", name=None)
    with pytest.raises(SpecError, match=r"spec\.json: .*name: missing.*prediction = 'epsilon': .*flavour: unknown key"):
        load_model(copy)


@pytest.mark.parametrize("name", ["absent", "no/such/place"])
def test_a_path_with_nothing_there_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"no model at .*; 'default', a folder with spec\.json, a run .* is needed"):
        load_model(tmp_path / name)


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds no spec\.json; .default., a folder with spec\.json, a run"):
        load_model(tmp_path)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("place", ["model.ckpt", "model/spec.json", "model/denoiser.safetensors"])
def test_a_pickle_is_refused_and_never_executed(copy: Path, place: str) -> None:
    path = copy.parent / place
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load_model(path if place == "model.ckpt" else copy)


def test_a_file_is_answered_with_what_to_name(copy: Path) -> None:
    with pytest.raises(UnknownFormat, match=r"spec\.json' is a file; .*; name the folder that holds spec\.json"):
        load_model(copy / "spec.json")


def test_an_installation_without_a_default_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "default_folder", lambda: tmp_path)
    for name in (None, "default"):
        with pytest.raises(CheckpointError, match=r"carries no default model; .*; name one with --model"):
            load_model(name)
