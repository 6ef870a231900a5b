"""Alphas that stand beside the tensors: PEFT's settings, in the header of a diffusers file or in `adapter_config.json`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from undiffuse.checkpoints.lora_names import TEXT_PREFIX
from undiffuse.core.errors import CheckpointError, explain

HEADER = "lora_adapter_metadata"  # of diffusers: JSON whose keys are NET.SETTING
BESIDE = "adapter_config.json"  # of PEFT, for a net alone
WEIGHTS = "adapter_model.safetensors"  # what PEFT calls the file beside it


class Row(NamedTuple):
    """What is told of a layer: its name with dots, rank and alpha, and whether it is DoRA."""

    name: str
    rank: int
    alpha: float | None
    dora: bool


@dataclass(frozen=True)
class Alphas:
    """PEFT's settings by net; those of a net alone are under ""."""

    settings: Mapping[str, Mapping[str, Any]]

    @classmethod
    def find(cls, path: Path, header: Mapping[str, str]) -> Alphas:
        """The settings in the header of a file or in the one beside it; there may be none.

        Raises:
            CheckpointError: when they are damaged.
        """
        beside = path.parent / BESIDE
        try:
            if HEADER in header:
                settings: dict[str, dict[str, Any]] = {}
                for name, value in json.loads(header[HEADER]).items():
                    net, _, setting = name.partition(".")
                    settings.setdefault(net, {})[setting] = value
                return cls(settings)
            if path.stem == Path(WEIGHTS).stem and beside.is_file():
                return cls({"": dict(json.loads(beside.read_text(encoding="utf-8")))})
        except (OSError, ValueError, AttributeError):
            where = f"the header of {path}" if HEADER in header else str(beside)
            raise CheckpointError(explain(f"PEFT's settings in {where} are damaged", "a table in JSON is needed")) from None
        return cls({})

    def of(self, net: str, layer: str, rank: int) -> float | None:
        """The alpha of a layer, by its name with dots, for terms of this rank; None where nothing is told."""
        told = self.settings.get(net) or self.settings.get("") or {}
        if "lora_alpha" not in told:
            return None
        patterns = dict(told.get("alpha_pattern") or {})
        found = (value for name, value in patterns.items() if layer == name or layer.endswith(f".{name.removeprefix('^')}"))
        alpha = float(next(found, told["lora_alpha"]))
        return alpha * rank**0.5 if told.get("use_rslora") else alpha


def header_of(layers: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """The header that tells diffusers the alphas, by net."""
    told = {f"{net}.{setting}": value for net, rows in layers.items() for setting, value in _settings(rows).items()}
    return {HEADER: json.dumps(told, indent=2, sort_keys=True)}


def config_of(rows: Sequence[Row]) -> str:
    """PEFT's `adapter_config.json` for a net."""
    fixed = {"peft_type": "LORA", "bias": "none", "lora_dropout": 0.0, "inference_mode": True, "base_model_name_or_path": None}
    return json.dumps({**fixed, **_settings(rows)}, indent=2, sort_keys=True)


def _settings(rows: Sequence[Row]) -> dict[str, Any]:
    """PEFT's settings of a net, whose most common rank and alpha hold where no pattern names a layer.

    Newer text encoders of transformers are without `text_model.`, and PEFT takes the end of a name for the whole.
    """
    ranks = {row.name.removeprefix(TEXT_PREFIX): row.rank for row in rows}
    alphas = {row.name.removeprefix(TEXT_PREFIX): float(row.rank if row.alpha is None else row.alpha) for row in rows}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "use_dora": any(row.dora for row in rows),
    }
