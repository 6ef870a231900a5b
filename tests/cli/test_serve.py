"""`undiffuse serve` refuses what is unsafe, and serves otherwise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from undiffuse.cli import serve
from undiffuse.cli.main import run
from undiffuse.serving.run import listen


def test_beyond_this_machine_a_key_is_needed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["serve", "--host", "0.0.0.0", "--out", str(tmp_path / "out")]) == 2
    assert "--host 0.0.0.0 without a key" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "NEEDED", ("no_such_package",))

    assert run(["serve"]) == 6
    assert "pip install 'undiffuse[serve]'" in capsys.readouterr().err


def test_limits_are_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["serve", "--queue", "0", "--out", str(tmp_path / "out")]) == 2
    assert "queue = 0" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_folder: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert run(["serve", "--model", str(tiny_folder), "--port", port, "--out", str(tmp_path / "out")]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_it_serves_until_it_is_stopped(tiny_folder: Path, tmp_path: Path) -> None:
    words = ["serve", "--model", str(tiny_folder), "--port", "0", "--out", str(tmp_path / "out"), "--json"]
    code = f"from undiffuse.cli.main import run; raise SystemExit(run({words!r}))"
    environment = {**os.environ, "UNDIFFUSE_API_KEY": "a-long-random-key"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        told = ""
        while not told.endswith("}\n"):
            told += process.stdout.readline()
        with httpx.Client(base_url=f"http://127.0.0.1:{json.loads(told)['port']}", timeout=30) as client:
            assert client.get("/api/models").status_code == 401
            (model,) = client.get("/api/models", headers={"x-api-key": "a-long-random-key"}).json()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130, -signal.SIGINT)

    assert json.loads(told)["models"] == [model["name"]] == [tiny_folder.name]
    assert (tmp_path / "out" / "jobs.sqlite").exists()
