"""Specs refuse what cannot be built, and say what is allowed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from undiffuse.core.errors import SpecError
from undiffuse.model.spec import AutoencoderSpec, CodecSpec, IdentitySpec, ModelSpec, UNetSpec, VQSpec


@pytest.fixture
def raw() -> dict[str, Any]:
    """The plain content of a small spec.json, as a person would write it."""
    return copy.deepcopy(
        {
            "name": "small",
            "size": 32,
            "codec": {"autoencoder": {"latent_channels": 4, "widths": [16, 32]}},
            "denoiser": {"widths": [16, 32], "depths": [0, 1], "heads": 2, "context_width": 384, "vector_width": 392},
            "conditioners": [{"kind": "text"}, {"kind": "label", "classes": ["fox"], "width": 8}],
            "schedule": {"kind": "flow"},
            "prediction": "flow",
        }
    )


def change(raw: dict[str, Any], path: str, value: Any) -> None:
    *place, key = path.split(".")
    for step in place:
        raw = raw[int(step) if isinstance(raw, list) else step]
    raw[key] = value


def test_a_spec_survives_json(raw: dict[str, Any]) -> None:
    spec = ModelSpec.parse(raw)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert ModelSpec.parse(spec.model_dump(mode="json", exclude_none=True)) == spec


def test_a_spec_cannot_be_changed(raw: dict[str, Any]) -> None:
    spec = ModelSpec.parse(raw)
    with pytest.raises(ValidationError, match="frozen"):
        spec.size = 64  # type: ignore[misc]


@pytest.mark.parametrize(
    "place", ["flavour", "codec.flavour", "codec.autoencoder.flavour", "denoiser.flavour", "conditioners.0.flavour"]
)
def test_extra_keys_are_refused_wherever_they_stand(raw: dict[str, Any], place: str) -> None:
    change(raw, place, "sweet")
    with pytest.raises(SpecError, match=r"^spec\.json: .*flavour: unknown key$"):
        ModelSpec.parse(raw, where="spec.json")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("size", 0, "size = 0: .*greater than or equal to 1"),
        ("size", 30, "size 30 cannot be halved as often as .*; a multiple of 4 is needed"),
        ("size", 34, "a multiple of 4 is needed"),
        ("prediction", "noise", "prediction = 'noise'"),
        ("schedule.kind", "karras", "schedule.kind = 'karras'"),
        ("codec.autoencoder.kind", "vae", "'vae' found using 'kind' does not match .*'kl', 'vq', 'identity'"),
        ("codec.autoencoder.kind", "vq", r"autoencoder\.vq\.codes: missing"),
        ("codec.autoencoder", {"kind": "vq", "latent_channels": 3, "widths": [8], "codes": 0}, "codes = 0"),
        ("codec.autoencoder", {"kind": "identity", "widths": [8]}, "widths: unknown key"),
        ("codec.autoencoder.widths", [], "widths = "),
        ("codec.autoencoder.widths", [16, 0], r"widths\.1 = 0"),
        ("codec.autoencoder.latent_channels", 0, "latent_channels = 0"),
        ("codec.autoencoder.blocks", 0, "blocks = 0"),
        ("codec.autoencoder.patch", 0, "patch = 0"),
        ("codec.autoencoder.attention_levels", [2], "attention_levels names level 2; levels are 0 to 1"),
        ("codec.autoencoder.attention_levels", [-1], r"attention_levels\.0 = -1"),
        ("codec.latent", {"shift": [0, 0]}, r"latent\.shift holds 2 values; 1 or latent_channels = 4 values are allowed"),
        ("codec.latent", {"scale": []}, r"latent\.scale holds 0 values"),
        ("codec.latent", {"scale": [0.0]}, r"scale\.0 = 0\.0"),
        ("codec.latent", {"scale": [float("inf")]}, r"scale\.0 = inf"),
        ("codec.latent", {"shift": [float("nan")]}, r"shift\.0 = nan"),
        ("denoiser.widths", [], "widths = "),
        ("denoiser.depths", [1], "2 widths and 1 depths; each level needs one of both"),
        ("denoiser.depths", [0, -1], r"depths\.1 = -1"),
        ("denoiser.mid_depth", -1, "mid_depth = -1"),
        ("denoiser.heads", 3, "3 does not divide the 32 channels of a level"),
        ("denoiser.heads", None, "heads = None, head_width = None; exactly one of the two must be set"),
        ("denoiser.head_width", 8, "heads = 2, head_width = 8; exactly one of the two must be set"),
        ("denoiser.dropout", 1.0, r"dropout = 1\.0"),
        ("denoiser.spatial_channels", 5, "spatial_channels = 5, but the conditioners deliver maps of width None"),
        (
            "denoiser.context_width",
            768,
            r"context_width = 768, but .* tokens of width 384; .*; set denoiser\.context_width = 384",
        ),
        ("denoiser.vector_width", None, r"vector_width = None, but .* of width 392; .*; set denoiser\.vector_width = 392"),
        ("conditioners", [], r"context_width = 384, but .* width None; .*; leave denoiser\.context_width out"),
        ("conditioners", [{"kind": "text"}] * 2, "2 conditioners of kind 'text'; .* one is allowed"),
        ("conditioners.0.kind", "clip", "clip"),
        ("conditioners.1.route", "tokens", r"tokens of widths \[8, 384\]; all tokens must have one width"),
    ],
)
def test_what_cannot_be_built_is_refused(raw: dict[str, Any], place: str, value: Any, message: str) -> None:
    change(raw, place, value)
    with pytest.raises(SpecError, match=message) as caught:
        ModelSpec.parse(raw, where="spec.json")
    assert str(caught.value).startswith("spec.json: ")


def test_every_wrong_key_is_listed_at_once(raw: dict[str, Any]) -> None:
    change(raw, "denoiser.blocks", 0)
    change(raw, "codec.autoencoder.patch", "big")
    del raw["name"]
    with pytest.raises(SpecError, match=r"name: missing; codec\.autoencoder\.kl\.patch = 'big': .*denoiser\.blocks = 0"):
        ModelSpec.parse(raw)


def test_eps_is_refused_where_alpha_reaches_zero(raw: dict[str, Any]) -> None:
    raw["prediction"] = "eps"
    with pytest.raises(SpecError, match=r"^spec\.json: .*'eps' on a schedule that ends at alpha = 0"):
        ModelSpec.parse(raw, where="spec.json")
    raw["schedule"] = {"kind": "scaled_linear"}
    assert ModelSpec.parse(raw).prediction == "eps"


def test_tokens_that_nothing_reads_are_refused(raw: dict[str, Any]) -> None:
    raw["denoiser"] = {"widths": [16, 32], "depths": [0, 0], "context_width": 8}
    raw["conditioners"] = [{"kind": "label", "classes": ["fox"], "width": 8, "route": "tokens"}]
    with pytest.raises(SpecError, match=r"deliver tokens, but denoiser\.depths are all 0"):
        ModelSpec.parse(raw)


def test_heads_are_only_asked_for_where_there_is_attention() -> None:
    spec = UNetSpec(widths=(30, 31), depths=(0, 0))
    assert not spec.attends
    with pytest.raises(SpecError, match="exactly one of the two must be set"):
        UNetSpec.parse({"widths": [30, 31], "depths": [0, 0], "mid_depth": 1})
    assert UNetSpec(widths=(31, 30), depths=(0, 1), heads=3).attends


@pytest.mark.parametrize(("patch", "levels", "factor"), [(1, 4, 8), (4, 2, 8), (2, 1, 2), (1, 1, 1)])
def test_the_factor_follows_from_patch_and_levels(patch: int, levels: int, factor: int) -> None:
    assert AutoencoderSpec(latent_channels=4, widths=(8,) * levels, patch=patch).factor == factor


def test_a_table_without_a_kind_is_a_kl_autoencoder_and_every_kind_survives_json() -> None:
    vq = {"kind": "vq", "latent_channels": 3, "widths": [8, 8], "codes": 16}
    for table, kind in (
        ({"latent_channels": 3, "widths": [8, 8]}, AutoencoderSpec),
        (vq, VQSpec),
        ({"kind": "identity"}, IdentitySpec),
    ):
        spec = CodecSpec.parse({"autoencoder": table})
        assert type(spec.autoencoder) is kind
        assert CodecSpec.model_validate_json(spec.model_dump_json()) == spec
        assert (spec.autoencoder.latent_channels, spec.autoencoder.factor) == (3, 1 if kind is IdentitySpec else 2)


def test_a_codec_spec_takes_one_number_for_all_channels() -> None:
    spec = CodecSpec.parse({"autoencoder": {"latent_channels": 4, "widths": [8]}, "latent": {"scale": [0.18215]}})
    assert spec.latent.scale == (0.18215,)


def test_a_level_without_a_transformer_cannot_attend_to_a_context_alone() -> None:
    with pytest.raises(SpecError, match="cross_only names level 0; it has no transformer"):
        UNetSpec.parse({"widths": (32, 64), "depths": (0, 1), "heads": 2, "context_width": 8, "cross_only": (0,)})
