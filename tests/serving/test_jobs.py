"""Jobs outlive crashes, pictures appear whole, nothing of a client's becomes a path."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.serving.conftest import furthest, make_desk, serving

from undiffuse.core.errors import Busy, SpecError, UsageError
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.serving.desk import Desk
from undiffuse.serving.jobs import Jobs

FOX = Request("a fox", seed=7, steps=3)


def wait_for_all(desk: Desk) -> None:
    for _ in range(1000):
        if not desk.live:
            return
        time.sleep(0.01)
    raise AssertionError(f"{len(desk.live)} jobs are not finished")


def test_a_job_and_its_pictures_are_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    photo = Image.effect_noise((8, 8), 60).convert("RGB")
    job = jobs.add(FOX.replace(image=photo, seed=2**64 - 1), "tiny", "api")
    jobs.started(job.id, job.request.replace(width=16, height=16))
    kept = jobs.keep(job.id, 0, job.request.seed, Image.new("RGB", (16, 16), "red"))
    jobs.ended(job.id, "failed", "no room.")
    jobs.close()

    again = Jobs(tmp_path)

    told = again.job(job.id)
    assert told is not None and (told.state, told.error, told.request.width) == ("failed", "no room.", 16)
    assert told.request.image is not None and told.request.image.tobytes() == photo.tobytes()
    assert again.pictures(job.id) == [kept] == again.pictures() and kept.seed == 2**64 - 1
    with Image.open(again.file(kept)) as image:
        assert image.getpixel((3, 3)) == (255, 0, 0)
    again.close()


def test_a_folder_belongs_to_one_server(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    with pytest.raises(UsageError, match="another server works on"):
        Jobs(tmp_path)
    jobs.close()
    Jobs(tmp_path).close()


def test_half_a_picture_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(tmp_path)
    job = jobs.add(FOX, "tiny", "api")

    def crash(*_: object) -> None:
        raise OSError("the power is gone")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="power"):
        jobs.keep(job.id, 0, 7, Image.new("RGB", (16, 16)))
    assert jobs.pictures() == [] and list((tmp_path / "pictures").glob("*.png")) == []
    jobs.close()
    Jobs(tmp_path).close()
    assert list((tmp_path / "pictures").iterdir()) == []  # and what was left is swept up


def test_interrupted_jobs_are_run_again_and_finished_pictures_kept(tmp_path: Path, tiny_folder: Path, alone: Generator) -> None:
    jobs = Jobs(tmp_path)
    name = tiny_folder.name
    queued, running = jobs.add(FOX, name, "api"), jobs.add(FOX.replace(count=2), name, "api")
    over = jobs.add(FOX, name, "api")
    jobs.ended(over.id, "cancelled")
    jobs.started(running.id, running.request)
    mark = Image.new("RGB", (16, 16), "red")
    jobs.keep(running.id, 0, 7, mark)
    jobs.close()
    desk = make_desk(tmp_path, tiny_folder)

    desk.open()
    wait_for_all(desk)

    assert [desk.jobs.job(job.id).state for job in (queued, running, over)] == ["done", "done", "cancelled"]  # type: ignore[union-attr]
    first, second = (Image.open(desk.jobs.file(picture)) for picture in desk.jobs.pictures(running.id))
    assert first.convert("RGB").tobytes() == mark.tobytes()  # not drawn again
    assert furthest(second, alone(FOX.replace(seed=8)).images[0]) <= 1
    for image in (first, second):
        image.close()
    desk.close()


def test_the_queue_is_bounded_and_says_so(tmp_path: Path, tiny_folder: Path) -> None:
    desk = make_desk(tmp_path, tiny_folder, queue=2)
    desk.submit(FOX)
    desk.submit(FOX)
    with pytest.raises(Busy, match="2 jobs wait already"):
        desk.submit(FOX)
    with pytest.raises(SpecError, match="count = 9"):
        desk.submit(FOX.replace(count=9))
    desk.open()  # nothing was lost
    wait_for_all(desk)
    assert [job.state for job in desk.jobs.jobs()] == ["done", "done"]
    desk.close()


def test_back_pressure_over_http(tmp_path: Path, tiny_folder: Path) -> None:
    with serving(make_desk(tmp_path, tiny_folder, queue=1)) as served, httpx.Client(base_url=served.url) as client:
        assert client.post("/api/jobs", json={"prompt": "a fox", "steps": 400, "count": 4}).status_code == 202
        for path in ("/api/jobs", "/v1/images/generations", "/sdapi/v1/txt2img"):
            answer = client.post(path, json={"prompt": "a fox"})
            assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert 'undiffuse_jobs_total{state="refused"} 3' in client.get("/metrics").text


def test_a_job_past_its_time_fails(tmp_path: Path, tiny_folder: Path) -> None:
    with serving(make_desk(tmp_path, tiny_folder, seconds=0.2)) as served:
        answer = httpx.post(f"{served.url}/v1/images/generations", json={"prompt": "a fox", "steps": 400, "n": 4}, timeout=30)

    assert answer.status_code == 504 and "took too long" in answer.json()["error"]["message"]


def test_stopping_keeps_what_is_not_finished(tmp_path: Path, tiny_folder: Path) -> None:
    answers: list[httpx.Response] = []
    with serving(make_desk(tmp_path, tiny_folder)) as served:
        body = {"prompt": "a fox", "steps": 400, "n": 4, "seed": 1}
        waiting = threading.Thread(target=lambda: answers.append(httpx.post(f"{served.url}/v1/images/generations", json=body)))
        waiting.start()
        while not (served.desk.live and served.desk.oldest().progress):  # type: ignore[union-attr]
            time.sleep(0.01)
    waiting.join(10)

    assert answers[0].status_code == 429 and "is run when it is back" in answers[0].json()["error"]["message"]
    jobs = Jobs(tmp_path)
    assert [job.state for job in jobs.interrupted()] == ["running"]
    jobs.close()


SERVER = """
import sys
import torch
torch.set_num_threads(1)
from tests.serving.conftest import make_desk
from undiffuse.serving.run import Server, door_of, listen
socket = listen("127.0.0.1", 0)
server = Server(make_desk(sys.argv[1], sys.argv[2]), door_of("127.0.0.1"), socket)
print(socket.getsockname()[1], flush=True)
server.serve_until_stopped()
"""


@contextmanager
def process(folder: Path, model: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A server in a process of its own, and a client of its /api."""
    command = [sys.executable, "-c", SERVER, str(folder), str(model)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{int(server.stdout.readline())}/api", timeout=30) as client:
                yield server, client
        finally:
            server.kill()


def until(client: httpx.Client, job: str, what: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    for _ in range(2000):
        told = client.get(f"/jobs/{job}").json()
        if what(told):
            return told
        time.sleep(0.02)
    raise AssertionError(told)


def test_kill_9_loses_nothing(tmp_path: Path, tiny_folder: Path, alone: Generator) -> None:
    with process(tmp_path, tiny_folder) as (server, client):
        done = client.post("/jobs", json={"prompt": "a fox", "seed": 7, "steps": 3}).json()["id"]
        until(client, done, lambda told: told["state"] == "done")
        long = client.post("/jobs", json={"prompt": "a fox", "seed": 1, "steps": 30, "count": 2}).json()["id"]
        until(client, long, lambda told: told["progress"])
        server.send_signal(signal.SIGKILL)
        server.wait()

    with process(tmp_path, tiny_folder) as (server, client):
        told = until(client, long, lambda told: told["state"] not in ("queued", "running"))
        assert (told["state"], client.get(f"/jobs/{done}").json()["state"]) == ("done", "done")
        server.terminate()
        assert server.wait(20) in (0, -signal.SIGTERM)

    assert len(told["pictures"]) == 2
    for picture, expected in zip(told["pictures"], alone(Request("a fox", seed=1, steps=30, count=2)).images, strict=True):
        with Image.open(tmp_path / "pictures" / f"{picture['name']}.png") as image:
            assert furthest(image, expected) <= 1
            assert json.loads(image.info["undiffuse"])["request"]["seed"] == int(picture["seed"])
