"""/api: jobs handed in, followed, cancelled; pictures in the library; what is refused."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.serving.conftest import Served, furthest

from undiffuse.generation.generator import Generator
from undiffuse.generation.output import read_request
from undiffuse.generation.request import Request

FOX = {"prompt": "a fox", "seed": 7, "steps": 3}


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client


def finished(client: httpx.Client, job: str) -> dict[str, Any]:
    for _ in range(600):
        told = client.get(f"/api/jobs/{job}").json()
        if told["state"] in ("done", "failed", "cancelled"):
            return told
        time.sleep(0.02)
    raise AssertionError(told)


def events(client: httpx.Client, path: str) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    with client.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                found.append((kind, json.loads(value)))
    return found


def text_of(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_job_is_drawn_as_a_generator_draws_it(client: httpx.Client, alone: Generator, tmp_path: Any) -> None:
    handed = client.post("/api/jobs", json={**FOX, "count": 2})
    assert handed.status_code == 202

    job = finished(client, handed.json()["id"])

    assert (job["state"], job["progress"], job["request"]["seed"], job["request"]["width"]) == ("done", 1.0, 7, 16)
    assert [picture["seed"] for picture in job["pictures"]] == ["7", "8"]
    for picture, expected in zip(job["pictures"], alone(Request(**FOX, count=2)).images, strict=True):
        path = tmp_path / "one.png"
        path.write_bytes(client.get(picture["file"]).content)
        with Image.open(path) as image:
            assert furthest(image, expected) <= 1
        assert read_request(path) == Request(**{**FOX, "seed": int(picture["seed"])}, width=16, height=16)


def test_events_tell_steps_previews_pictures_and_the_end(client: httpx.Client) -> None:
    job = client.post("/api/jobs", json={**FOX, "steps": 400, "seed": 3}).json()["id"]  # long enough to be heard of

    told = events(client, f"/api/jobs/{job}/events?previews=true")

    kinds = [kind for kind, _ in told]
    assert set(kinds) == {"step", "preview", "picture", "end"} and kinds[-2:] == ["picture", "end"]
    steps = [data["done"] for kind, data in told if kind == "step"]
    assert steps == list(range(steps[0], 401))
    preview = next(data for kind, data in told if kind == "preview")
    shown = Image.open(io.BytesIO(base64.b64decode(preview["image"].partition(",")[2])))
    assert (shown.size, shown.format) == ((16, 16), "JPEG")
    assert told[-1][1] == {"state": "done", "error": None}
    again = events(client, f"/api/jobs/{job}/events")
    assert [kind for kind, _ in again] == ["picture", "end"] and again[0][1] == told[-2][1]


def test_a_cancelled_job_ends_at_once_and_others_go_on(client: httpx.Client, served: Served) -> None:
    long = client.post("/api/jobs", json={**FOX, "steps": 400, "count": 4}).json()["id"]
    other = client.post("/api/jobs", json=FOX).json()["id"]

    assert client.post(f"/api/jobs/{long}/cancel").status_code == 200

    assert finished(client, long)["state"] == "cancelled"
    assert finished(client, other)["state"] == "done"
    again = client.post(f"/api/jobs/{long}/cancel")
    assert (again.status_code, again.json()["detail"]) == (409, f"job {long} is cancelled already.")


def test_pictures_come_in_as_base64_and_are_not_told_again(client: httpx.Client, alone: Generator) -> None:
    photo, hole = Image.effect_noise((40, 30), 60).convert("RGB"), Image.new("L", (40, 30))
    hole.paste(255, (10, 8, 22, 20))
    body = {**FOX, "image": "data:image/png;base64," + text_of(photo), "mask": text_of(hole)}

    job = finished(client, client.post("/api/jobs", json=body).json()["id"])

    assert "image" not in job["request"] and job["request"]["fill"] == "known"
    drawn = Image.open(io.BytesIO(client.get(job["pictures"][0]["file"]).content))
    expected = alone(Request(**FOX, image=photo, mask=hole)).images[0]
    assert furthest(drawn, expected) <= 1


def test_the_library_lists_shows_converts_and_deletes(client: httpx.Client) -> None:
    job = finished(client, client.post("/api/jobs", json={**FOX, "seed": 2**64 - 1}).json()["id"])
    name = job["pictures"][0]["name"]

    assert client.get("/api/pictures?limit=1").json()["pictures"] == job["pictures"]
    details = client.get(f"/api/pictures/{name}").json()
    assert (details["seed"], details["request"]["seed"], details["request"]["prompt"]) == (str(2**64 - 1), 2**64 - 1, "a fox")
    for form in ("jpeg", "webp"):
        answer = client.get(f"/api/pictures/{name}/file?format={form}")
        image = Image.open(io.BytesIO(answer.content))
        assert (answer.headers["content-type"], image.format) == (f"image/{form}", form.upper())
        assert b"S\0t\0e\0p\0s\0:" in image.info["exif"]
    assert client.delete(f"/api/pictures/{name}").status_code == 204
    assert client.get(f"/api/pictures/{name}/file").status_code == 404


def test_models_are_told(client: httpx.Client) -> None:
    finished(client, client.post("/api/jobs", json=FOX).json()["id"])
    (model,) = client.get("/api/models").json()

    assert (model["first"], model["loaded"], model["size"], model["reads"]) == (True, True, 16, ["caption", "label"])


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"steps": 401}, 422, "steps = 401; this server allows up to 400"),
        ({"count": 5}, 422, "count = 5; this server allows up to 4"),
        ({"width": 65}, 422, "a side of 65 pixels"),
        ({"width": 17}, 422, "multiples of 4"),
        ({"solver": "nonsense"}, 422, "unknown solver 'nonsense'"),
        ({"nonsense": 1}, 422, "Extra inputs are not permitted"),
        ({"seed": -2}, 422, "greater than or equal to -1"),
        ({"model": "nonsense"}, 404, "no model 'nonsense'; there are:"),
        ({"model": "../../etc/passwd"}, 404, "no model"),
        ({"image": "/etc/passwd"}, 422, "the text is no picture"),
        ({"image": "http://127.0.0.1/x.png"}, 422, "the text is no picture"),
        ({"image": "aGVsbG8="}, 422, "the data is no picture"),
        ({"label": "cat"}, 422, "unknown label 'cat'"),
    ],
)
def test_what_cannot_be_had_is_refused(client: httpx.Client, change: dict[str, Any], status: int, words: str) -> None:
    finished(client, client.post("/api/jobs", json=FOX).json()["id"])  # the model is loaded

    answer = client.post("/api/jobs", json={**FOX, **change})

    assert answer.status_code == status and words in answer.json()["detail"]


def test_decompression_bombs_are_refused_before_they_are_decoded(client: httpx.Client) -> None:
    bomb = text_of(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 200_000

    answer = client.post("/api/jobs", json={**FOX, "image": bomb})

    assert answer.status_code == 422 and answer.json()["detail"].startswith(
        ("a picture of 20000x20000", "the data is no picture")
    )


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "jobs.sqlite", "0" * 16 + "-0", "0" * 16 + "-0%00"])
def test_names_of_pictures_are_no_paths(client: httpx.Client, name: str) -> None:
    assert client.get(f"/api/pictures/{name}/file").status_code in (404, 422)
    assert client.get(f"/api/jobs/{name}").status_code in (404, 422)


def test_health_and_metrics(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.post("/v1/images/generations", json={"prompt": "a fox", "steps": 1}).status_code == 200
    lines = client.get("/metrics").text.splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(samples['undiffuse_jobs_total{state="done"}']) >= 1
    assert float(samples["undiffuse_network_pictures_total"]) >= float(samples["undiffuse_network_calls_total"]) > 0
    families = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {name.partition("{")[0] for name in samples} == families
