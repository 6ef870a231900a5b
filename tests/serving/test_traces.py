"""/api/traces: pictures of the library recorded, told in numbers, compared; what is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from tests.serving.conftest import Heard, Served, furthest, make_desk, serving
from tests.serving.test_own import finished

from undiffuse.core.errors import Busy, Cancelled, TimedOut
from undiffuse.explain.recording import record
from undiffuse.explain.trace import read_trace
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.serving.engine import Engine, Work
from undiffuse.serving.traces import MOST, Recording, Traces

FOX = {"prompt": "a fox", "seed": 7, "steps": 3}


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client


def drawn(client: httpx.Client, **told: Any) -> str:
    """The name of a picture."""
    job = finished(client, client.post("/api/jobs", json={**FOX, **told}).json()["id"])
    return job["pictures"][-1]["name"]


def test_a_picture_is_recorded(client: httpx.Client, served: Served, tmp_path: Path) -> None:
    name = drawn(client, count=2)  # the second of two

    answer = client.post(f"/api/pictures/{name}/trace")

    assert answer.status_code == 201
    told = answer.json()
    assert (told["name"], len(told["steps"]), int(told["told"]["request"]["seed"])) == (name, 3, 8)
    assert told["words"] and told["layers"] and all(step["sigma"] >= 0 for step in told["steps"])
    assert client.get(f"/api/traces/{name}").json() == told
    assert name in [entry["name"] for entry in client.get("/api/traces").json()]
    (tmp_path / "a.trace").write_bytes(client.get(told["file"]).content)
    trace = read_trace(tmp_path / "a.trace")
    picture = Image.open(served.desk.jobs.file(served.desk.jobs.picture(name)))  # type: ignore[arg-type]
    assert len(trace) == 3
    assert np.abs(np.asarray(trace.picture, dtype=int) - np.asarray(picture.convert("RGB"), dtype=int)).max() <= 1


def test_two_traces_are_compared(client: httpx.Client) -> None:
    one, other = drawn(client), drawn(client, prompt="a house")
    for name in (one, other):
        assert client.post(f"/api/pictures/{name}/trace").status_code == 201

    told = client.get(f"/api/traces/{one}/diff/{other}").json()
    assert not told["same"] and told["parting"]["step"] == 0 and told["cause"].startswith("prompt")
    assert len(told["rows"]) == 3
    assert client.get(f"/api/traces/{one}/diff/{one}").json()["same"]


def test_deleting_a_trace_leaves_its_picture(client: httpx.Client) -> None:
    name = drawn(client)
    client.post(f"/api/pictures/{name}/trace")

    assert client.delete(f"/api/traces/{name}").status_code == 204
    assert client.get(f"/api/traces/{name}").status_code == 404
    assert client.get(f"/api/pictures/{name}").status_code == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "pictures/{}/trace"), ("GET", "traces/{}"), ("DELETE", "traces/{}")])
@pytest.mark.parametrize("name", ["0" * 16 + "-0", "..%2f..%2fetc%2fpasswd", "0" * 16 + "-0%00"])
def test_what_is_not_there(client: httpx.Client, method: str, path: str, name: str) -> None:
    assert client.request(method, f"/api/{path.format(name)}").status_code in (404, 422)


def test_what_cannot_be_recorded_is_told(client: httpx.Client) -> None:
    name = drawn(client, hires={"scale": 2, "strength": 0.5})

    answer = client.post(f"/api/pictures/{name}/trace")

    assert answer.status_code == 422 and "one pass is recorded" in answer.json()["detail"]
    assert client.get(f"/api/traces/{name}").status_code == 404


def test_a_client_that_leaves_ends_its_recording(tiny_folder: Path, tmp_path: Path) -> None:
    with (
        serving(make_desk(tmp_path / "served", tiny_folder)) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        name = drawn(client, steps=1)
        hold, held = threading.Event(), threading.Event()
        busy = server.desk.engine.alone(server.desk.models.first, lambda draw: (held.set(), hold.wait(20)))
        assert held.wait(20)
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"/api/pictures/{name}/trace", timeout=0.5)
        recording = asked_for(server)
        assert recording._left.wait(20)
        hold.set()
        busy.result(20)
        with pytest.raises(Cancelled):
            recording.done.result(20)
        assert client.get("/api/traces").json() == []


def asked_for(server: Served) -> Recording:
    """The one recording that waits, as soon as the server has heard of it."""
    until = time.monotonic() + 20
    while not server.desk.traces._open and time.monotonic() < until:
        time.sleep(0.01)
    (recording,) = server.desk.traces._open
    return recording


def test_only_so_many_wait(tmp_path: Path) -> None:
    traces = Traces(tmp_path, Engine({}.get), 1.0)  # which never begins
    for _ in range(MOST):
        traces.record("0" * 16 + "-0", None, "tiny")  # type: ignore[arg-type]
    with pytest.raises(Busy, match="8 recordings wait already"):
        traces.record("0" * 16 + "-0", None, "tiny")  # type: ignore[arg-type]


def test_jobs_go_on_while_a_picture_is_recorded(alone: Generator, tmp_path: Path) -> None:
    """Each comes out as it would by itself, though every step of one lies between two of the other."""
    engine = Engine({"tiny": alone}.get)
    traces, fox = Traces(tmp_path, engine, 60.0), Request("a fox", seed=1, steps=4)
    recording, heard = traces.record("0" * 16 + "-0", fox, "tiny"), Heard()
    held: list[set[str]] = []
    heard.after_step = lambda: held.append(engine.asked() & engine.drawing())
    engine.submit(Work("one", "tiny", fox.replace(seed=2, steps=3), heard))
    engine.turn()

    assert recording.done.done() and len(heard.pictures) == 1 and held == [{"tiny"}] * 3 and not engine.asked()
    trace, apart = read_trace(recording.done.result()), record(alone, fox)
    assert len(trace) == 4 and trace.picture.tobytes() == apart.picture.tobytes()
    assert all(torch.equal(trace.tensors[name], own) for name, own in apart.tensors.items() if name != "work")  # seconds
    assert furthest(heard.pictures[0], alone(fox.replace(seed=2, steps=3)).images[0]) <= 1


def test_what_goes_on_beside_jobs_ends_with_the_server(alone: Generator, tmp_path: Path) -> None:
    engine = Engine({"tiny": alone}.get)
    recording = Traces(tmp_path, engine, 60.0).record("0" * 16 + "-0", Request("a fox", seed=1, steps=4), "tiny")
    engine.stop()
    engine.turn()
    with pytest.raises(Cancelled, match="the server stops"):
        recording.done.result(0)


def test_a_recording_has_its_time() -> None:
    with pytest.raises(TimedOut):
        Recording(-1.0).go_on()
