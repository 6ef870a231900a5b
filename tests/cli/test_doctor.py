"""`undiffuse doctor` tells what there is and how to get what is missing."""

from __future__ import annotations

import json

import pytest

from undiffuse.cli import doctor
from undiffuse.cli.main import run


def test_the_machine_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert set(told) >= {"undiffuse", "system", "packages", "devices", "chosen", "precision", "threads", "memory", "extras"}
    assert "cpu" in told["devices"]
    assert told["packages"]["torch"] != "no"


def test_a_missing_extra_comes_with_its_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"dreams": (("no_such_module",), "tells dreams")})

    assert run(["doctor"]) == 0
    assert "to have the extra 'dreams' (tells dreams): pip install 'undiffuse[dreams]'" in capsys.readouterr().out


def test_the_hub_variables_are_honoured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", "/somewhere")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    assert run(["doctor"]) == 0
    assert "/somewhere/hub, 0 models, network off" in capsys.readouterr().out
