"""The unmodified `openai` client: pictures, streams, edits, models, errors."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import openai
import pytest
from PIL import Image
from tests.serving.conftest import Served, furthest

from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request

EXTRA = {"seed": 7, "steps": 4}


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def opened(text: str | None) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text or "")))
    image.load()
    return image


def file_of(picture: Image.Image) -> tuple[str, bytes, str]:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return "picture.png", data.getvalue(), "image/png"


def test_generate(client: openai.OpenAI, alone: Generator) -> None:
    answer = client.images.generate(prompt="a fox", n=2, size="16x16", extra_body={**EXTRA, "negative_prompt": "red"})

    assert (answer.size, answer.output_format, answer.background, len(answer.data or [])) == ("16x16", "png", "opaque", 2)
    for told, image in zip(answer.data or [], alone(Request("a fox", negative="red", **EXTRA, count=2)).images, strict=True):
        assert furthest(opened(told.b64_json), image) <= 1
        assert "Seed: " in opened(told.b64_json).info["parameters"]


def test_other_formats_and_addresses(client: openai.OpenAI, served: Served) -> None:
    import httpx

    jpeg = client.images.generate(prompt="a fox", output_format="jpeg", output_compression=50, extra_body=EXTRA)
    assert opened((jpeg.data or [])[0].b64_json).format == "JPEG"
    address = (client.images.generate(prompt="a fox", response_format="url", extra_body=EXTRA).data or [])[0].url or ""
    assert address.startswith(f"{served.url}/api/pictures/") and httpx.get(address).headers["content-type"] == "image/png"


def test_a_stream_brings_partial_pictures_and_the_finished_one(client: openai.OpenAI, alone: Generator) -> None:
    extra = {"seed": 7, "steps": 8}

    events = list(client.images.generate(prompt="a fox", stream=True, partial_images=3, extra_body=extra))

    assert [event.type for event in events] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:3]] == [0, 1, 2]  # type: ignore[union-attr]
    previews = [step.preview()[0] for step in alone.stream(Request("a fox", **extra))]
    for event, step in zip(events[:3], (2, 4, 6), strict=True):
        assert furthest(opened(event.b64_json), previews[step - 1]) <= 1
    assert furthest(opened(events[-1].b64_json), alone(Request("a fox", **extra)).images[0]) <= 1
    assert events[-1].size == "16x16"


def test_edits_draw_anew_what_is_transparent(client: openai.OpenAI, alone: Generator) -> None:
    photo = Image.effect_noise((40, 30), 60).convert("RGB")
    mask = Image.new("RGBA", (40, 30), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (10, 8, 22, 20))
    hole = Image.new("L", (40, 30))
    hole.paste(255, (10, 8, 22, 20))

    answer = client.images.edit(image=file_of(photo), mask=file_of(mask), prompt="a hat", extra_body=EXTRA)

    drawn = opened((answer.data or [])[0].b64_json)
    assert furthest(drawn, alone(Request("a hat", image=photo, mask=hole, **EXTRA)).images[0]) <= 1
    outside = Image.composite(Image.new("RGB", photo.size), drawn, hole)
    assert outside.tobytes() == Image.composite(Image.new("RGB", photo.size), photo, hole).tobytes()


def test_edits_without_a_mask_start_from_the_picture_and_stream(client: openai.OpenAI, alone: Generator) -> None:
    photo = Image.effect_noise((16, 16), 60).convert("RGB")
    extra = {**EXTRA, "strength": 0.5}

    *_, last = client.images.edit(image=[file_of(photo)], prompt="a hat", stream=True, partial_images=1, extra_body=extra)

    assert last.type == "image_edit.completed"
    assert furthest(opened(last.b64_json), alone(Request("a hat", image=photo, **extra)).images[0]) <= 1


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data

    assert model.object == "model"
    assert client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError, match="no model 'nonsense'"):
        client.models.retrieve("nonsense")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra_body": {"nonsense": 1}}, "unknown parameter 'nonsense'"),
        ({"extra_body": {"steps": 401}}, "steps = 401; this server allows up to 400"),
        ({"size": "1024x1024"}, "a side of 1024 pixels"),
        ({"n": 11}, "count = 11"),
        ({"background": "transparent"}, "pictures here are opaque"),
        ({"response_format": "nonsense"}, "response_format"),
    ],
)
def test_what_cannot_be_had_is_told_in_their_words(client: openai.OpenAI, change: dict[str, object], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        client.images.generate(**{"prompt": "a fox", **change})  # type: ignore[call-overload]

    assert caught.value.type == "invalid_request_error"


def test_a_mask_without_anything_transparent_is_refused(client: openai.OpenAI) -> None:
    photo = Image.new("RGB", (16, 16), "red")

    with pytest.raises(openai.BadRequestError, match="must be transparent"):
        client.images.edit(image=file_of(photo), mask=file_of(photo), prompt="a hat")


def test_whoever_stops_reading_ends_the_job(client: openai.OpenAI, served: Served) -> None:
    import time

    stream = client.images.generate(prompt="a fox", stream=True, partial_images=3, n=4, extra_body={"steps": 200, "seed": 1})
    next(iter(stream))
    stream.close()  # type: ignore[union-attr]

    for _ in range(200):
        if not served.desk.live:
            break
        time.sleep(0.02)
    assert served.desk.jobs.jobs(limit=1)[0].state == "cancelled"
