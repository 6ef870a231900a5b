"""`load_model` and `save_model`: from a name, a path or a run to a model, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from undiffuse.checkpoints.diffusers_folder import is_diffusers_folder, load_diffusers_folder
from undiffuse.checkpoints.folder import SPEC
from undiffuse.checkpoints.hub import fetch_from_hub, hub_id, is_hub_id
from undiffuse.checkpoints.native import load_codec_folder, load_model_folder, save_model_folder
from undiffuse.checkpoints.single_file import is_single_file, load_single_file
from undiffuse.checkpoints.vae_files import with_vae
from undiffuse.core.errors import CheckpointError, UnknownFormat, explain
from undiffuse.model.build import build_codec
from undiffuse.model.codec import Codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import CodecSpec, IdentitySpec

DEFAULT = "default"
PIXELS = "pixels"  # names the codec that is none


def default_folder() -> Path:
    """Where the embedded default model lies."""
    return Path(str(resources.files("undiffuse"))) / "weights" / DEFAULT


def find_folder(source: str | Path | None) -> Path:
    """The model folder that a user means: None or "default", a folder, a training run, or a hub id.

    What is on disk goes before the hub; the hub is asked only for names of the form owner/name[@revision].

    Raises:
        CheckpointError: when there is none; the message lists what was looked for.
        UnknownFormat: when the path is a file.
    """
    if source is None or str(source) == DEFAULT:
        folder = default_folder()
        if not (folder / SPEC).exists():
            given = "this installation carries no default model"
            raise CheckpointError(explain(given, "a model folder is needed", "name one with --model, or reinstall undiffuse"))
        return folder
    path = Path(source)
    for folder in (path, path / "model"):
        if (folder / SPEC).is_file():
            return folder
    if path.is_file():
        given = f"{str(path)!r} is a file"
        raise UnknownFormat(explain(given, "a model folder or a run is read", "name the folder that holds spec.json"))
    if isinstance(source, str) and _is_on_hub(source):
        return _whole(fetch_from_hub(source), source)
    given = f"the folder {str(path)!r} holds no spec.json" if path.is_dir() else f"no model at {str(source)!r}"
    allowed = "'default', a folder with spec.json, a run of 'undiffuse train' or a hub id is needed"
    raise CheckpointError(explain(given, allowed, "check the path"))


def _is_on_hub(source: str) -> bool:
    """Whether a hub id is meant: nothing on disk is called so."""
    return is_hub_id(source) and not Path(source).exists() and not Path(source).parent.is_dir()


def _hub_name(source: str) -> str:
    found = hub_id(source)
    return found.name.rpartition("/")[2] if found else source


def _whole(folder: Path, source: str) -> Path:
    if not (folder / SPEC).is_file():
        raise UnknownFormat(explain(f"{source} holds no spec.json", "a model folder of ours is needed", "name another"))
    return folder


def load_model(source: str | Path | None = None, vae: str | Path | None = None) -> LatentDiffusion:
    """A model ready for inference, on the CPU: in float32, or in the precision of a file of Stable Diffusion's.

    Args:
        source: None for the embedded default; else a model folder or a training run; a single file of Stable
            Diffusion 1.x, 2.x or XL, or the folder of such a pipeline of diffusers; or the hub id of any of them,
            `owner/name[@revision][:file]`.
        vae: an autoencoder in a file or folder of its own, in the place of the model's.

    Raises:
        CheckpointError: when nothing is there, or tensors are missing, left over or misshapen.
        SpecError: when its spec.json holds a wrong value, or a file does not tell what its model predicts.
    """
    if vae is not None:
        return with_vae(load_model(source), vae)
    if source is not None and is_single_file(source):
        return load_single_file(source)
    if source is not None and is_diffusers_folder(source):
        return load_diffusers_folder(source)
    if isinstance(source, str) and _is_on_hub(source):
        place = fetch_from_hub(source)
        model = load_model(place)
        named = is_diffusers_folder(place)  # a folder of the cache is called by a hash
        return replace(model, spec=model.spec.model_copy(update={"name": _hub_name(source)})) if named else model
    return load_model_folder(find_folder(source))


def load_codec(source: str | Path | None = None) -> tuple[Codec, CodecSpec]:
    """Only the autoencoder of a model, or of a stage-one run, with its spec; "pixels" is none, for diffusion on pixels.

    Raises:
        CheckpointError: as `load_model`.
    """
    if source == PIXELS:
        spec = CodecSpec(autoencoder=IdentitySpec())
        return build_codec(spec), spec
    codec, spec = load_codec_folder(find_folder(source))
    codec.eval().requires_grad_(False)
    return codec, spec


def save_model(
    model: LatentDiffusion, folder: str | Path, formats: Mapping[str, str] | None = None, card: str | None = None
) -> None:
    """Write a model as a native folder; see `native.save_model_folder`."""
    save_model_folder(model, Path(folder), formats, card)
