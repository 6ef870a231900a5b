"""`undiffuse studio`, short of the page itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from undiffuse.cli import studio
from undiffuse.cli.main import run


def test_what_it_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(studio, "find_spec", lambda name: None if name == "gradio" else find_spec(name))

    assert run(["studio", "--out", str(tmp_path / "out")]) == 6
    assert "pip install 'undiffuse[studio]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--gallery", "nowhere"], "no folder 'nowhere'"),
        (["--lora-dir", "nowhere"], "no folder 'nowhere'"),
        (["--host", "0.0.0.0"], "without a key"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    options: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNDIFFUSE_API_KEY", raising=False)

    assert run(["studio", "--port", "0", *options]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
