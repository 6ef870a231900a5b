"""The unmodified clients of A1111's web UI: webuiapi, sd-backend-client; sd-parsers on the pictures."""

from __future__ import annotations

import base64
import copy
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import webuiapi
from PIL import Image
from sd_backend_client.api.a1111_webservice import A1111Webservice
from sd_backend_client.api.detect import connect_to_backend
from sd_backend_client.api.shared_data.diffusion_params import DiffusionParams
from sd_backend_client.api.webui.diffusion_request_body import DiffusionRequestBody
from sd_parsers import ParserManager
from tests.serving.conftest import Served, furthest, serving

from undiffuse.core.random import normal
from undiffuse.generation.generator import Generator
from undiffuse.generation.hires import Hires
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.serving.desk import Desk
from undiffuse.serving.jobs import Jobs
from undiffuse.serving.limits import Limits
from undiffuse.serving.models import Models

SMALL = {"width": 16, "height": 16, "steps": 4, "seed": 7}
PHOTO = Image.effect_noise((16, 16), 60).convert("RGB")
HOLE = Image.new("L", (16, 16))
HOLE.paste(255, (4, 4, 10, 10))


@pytest.fixture
def api(served: Served) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(port=served.port)


@pytest.fixture
def backend(served: Served) -> Iterator[A1111Webservice]:
    client = connect_to_backend(served.url)
    assert isinstance(client, A1111Webservice)
    yield client
    client.disconnect()


def test_webuiapi_draws_from_words(api: webuiapi.WebUIApi, alone: Generator) -> None:
    result = api.txt2img(prompt="a fox", negative_prompt="red", cfg_scale=5, batch_size=2, n_iter=2, **SMALL)

    request = Request("a fox", negative="red", guidance=5, solver="Euler a", count=4, **SMALL)
    for drawn, expected in zip(result.images, alone(request).images, strict=True):
        assert furthest(drawn, expected) <= 1
    assert (result.info["seed"], result.info["all_seeds"], result.info["sampler_name"]) == (7, [7, 8, 9, 10], "Euler a")
    assert [f"Seed: {seed}," in text for seed, text in zip((7, 8, 9, 10), result.info["infotexts"], strict=True)] == [True] * 4
    assert result.parameters["prompt"] == "a fox"
    told = api.png_info(result.image)
    assert told.info == result.info["infotexts"][0] and "Sampler: Euler a" in told.info


def test_webuiapi_draws_from_a_picture_and_into_a_mask(api: webuiapi.WebUIApi, alone: Generator) -> None:
    drawn = api.img2img(images=[PHOTO], prompt="a hat", denoising_strength=0.5, sampler_name="DPM++ 2M Karras", **SMALL)
    request = Request("a hat", guidance=7, image=PHOTO, strength=0.5, solver="DPM++ 2M Karras", **SMALL)
    assert furthest(drawn.image, alone(request).images[0]) <= 1

    hole = {"mask_image": HOLE, "mask_blur": 0, "inpainting_fill": 1}
    filled = api.img2img(images=[PHOTO], prompt="a hat", denoising_strength=1.0, **hole, **SMALL)
    request = Request("a hat", guidance=7, image=PHOTO, mask=HOLE, solver="Euler a", **SMALL)
    assert furthest(filled.image, alone(request).images[0]) <= 1


def test_webuiapi_draws_in_two_passes(api: webuiapi.WebUIApi, alone: Generator) -> None:
    hires = {"enable_hr": True, "hr_scale": 1.5, "hr_second_pass_steps": 3, "denoising_strength": 0.6}
    drawn = api.txt2img(prompt="a fox", cfg_scale=5, **hires, **SMALL)

    request = Request("a fox", guidance=5, solver="Euler a", hires=Hires(scale=1.5, strength=0.6, steps=3), **SMALL)
    assert drawn.image.size == (24, 24) and furthest(drawn.image, alone(request).images[0]) <= 1
    assert drawn.info["denoising_strength"] == 0.6
    assert "Hires upscale: 1.5, Hires steps: 3, Hires upscaler: Latent" in drawn.info["infotexts"][0]
    lanczos = api.txt2img(prompt="a fox", cfg_scale=5, hr_upscaler=webuiapi.HiResUpscaler.Lanczos, **hires, **SMALL)
    assert lanczos.image.size == (24, 24) and lanczos.image.tobytes() != drawn.image.tobytes()


def test_webuiapi_finds_its_lists(api: webuiapi.WebUIApi) -> None:
    assert "DPM++ 2M" in api.util_get_sampler_names() and "karras" in api.util_get_scheduler_names()
    assert len(api.util_get_model_names()) == 1
    api.util_set_model("anything")  # takes the nearest
    assert api.util_get_current_model() == api.util_get_model_names()[0]
    api.util_wait_for_ready(check_interval=0.05)
    empty = (api.get_loras, api.get_hypernetworks, api.get_face_restorers, api.get_realesrgan_models, api.get_prompt_styles)
    assert all(ask() == [] for ask in empty)
    assert api.get_memory()["ram"]["total"] > 0 and api.get_cmd_flags() == {} and api.get_scripts()["txt2img"] == []
    assert [one["name"] for one in api.get_upscalers()] == ["None", "Lanczos", "Nearest"]
    assert api.extra_single_image(PHOTO, upscaler_1="Lanczos", upscaling_resize=2).image.size == (32, 32)
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    api.refresh_checkpoints()
    assert api.get_sd_vae() == []


def test_sd_backend_client_draws_and_reads_every_answer(backend: A1111Webservice, alone: Generator) -> None:
    params = DiffusionParams(prompt="a fox", sampler="euler", cfg_scale=5, batch_size=2, **SMALL)

    result = backend.submit_txt2img(params).wait(timeout=60)

    request = Request("a fox", guidance=5, solver="euler", spacing=spacing_of(params), count=2, **SMALL)
    for drawn, expected in zip(result.images, alone(request).images, strict=True):
        assert furthest(drawn, expected) <= 1
    assert result.seeds == [7, 8]
    painted = backend.submit_inpaint(DiffusionParams(prompt="a hat", init_images=[PHOTO], mask=HOLE, **SMALL)).wait(timeout=60)
    assert painted.images[0].size == (16, 16)
    assert backend.progress_check().state.job_count == 0
    assert backend.get_samplers() and backend.get_models() and backend.get_upscalers() and backend.get_vae() == []
    assert backend.get_scripts().txt2img == [] and backend.get_script_info() == [] and backend.get_loras() == []
    assert backend.list_checkpoints() and backend.list_schedulers() and backend.get_config()["sd_model_checkpoint"]
    assert backend.upscale(PHOTO, 40, 40)["images"][0].size == (40, 40)
    backend.set_config({"sd_model_checkpoint": backend.get_models()[0].title, "whatever": [1, 2]})


def spacing_of(params: DiffusionParams) -> str | None:
    """The spacing that the client sends, in our words."""
    sent = DiffusionRequestBody.from_params(params).to_dict()["scheduler"]
    from undiffuse.serving.dialects.sdapi_requests import spacings

    return spacings().get(sent.lower())


def test_sd_backend_client_sees_progress_and_cancels(backend: A1111Webservice, served: Served) -> None:
    seen = []
    handle = backend.submit_txt2img(DiffusionParams(prompt="a fox", **{**SMALL, "steps": 400}))
    while not any(told.preview for told in seen):
        seen.append(handle.poll())
        time.sleep(0.02)
    assert seen[-1].preview and seen[-1].preview.size == (16, 16) and 0 < seen[-1].overall_progress < 1

    assert handle.cancel()

    wait_for(lambda: not served.desk.live)
    assert served.desk.jobs.jobs(limit=1)[0].state == "cancelled"


def wait_for(what: Any) -> None:
    for _ in range(500):
        if what():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_sd_parsers_reads_our_pictures(api: webuiapi.WebUIApi, tmp_path: Path) -> None:
    drawn = api.txt2img(prompt="a fox, small", negative_prompt="red", scheduler="Karras", **SMALL)
    path = tmp_path / "one.png"
    path.write_bytes(base64.b64decode(drawn.json["images"][0]))

    told = ParserManager().parse(path)

    assert told is not None
    (sampler,) = told.samplers
    assert (sampler.name, sampler.parameters["seed"]) == ("Euler a", "7")
    assert [prompt.value for prompt in sampler.prompts] == ["a fox, small"]
    assert [prompt.value for prompt in sampler.negative_prompts] == ["red"]


def test_one_request_gives_one_picture_in_every_dialect(api: webuiapi.WebUIApi, served: Served) -> None:
    said = {"prompt": "a fox", "seed": 7, "steps": 4, "solver": "euler", "spacing": "karras", "guidance": 6}
    in_theirs = api.txt2img(prompt="a fox", sampler_name="Euler", scheduler="Karras", cfg_scale=6, **SMALL).image
    with httpx.Client(base_url=served.url, timeout=30) as client:
        answer = client.post("/v1/images/generations", json=said).json()
        job = client.post("/api/jobs", json=said).json()["id"]
        wait_for(lambda: client.get(f"/api/jobs/{job}").json()["state"] == "done")
        own = client.get(client.get(f"/api/jobs/{job}").json()["pictures"][0]["file"]).content

    theirs = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
    assert theirs.tobytes() == Image.open(io.BytesIO(own)).tobytes() == in_theirs.tobytes()


def test_interrupt_answers_what_is_finished_and_skip_goes_on(api: webuiapi.WebUIApi, served: Served) -> None:
    results: list[webuiapi.WebUIApiResult] = []

    def draw() -> None:
        results.append(api.txt2img(prompt="a fox", **{**SMALL, "steps": 400}))

    for act, images in ((api.interrupt, 0), (api.skip, 0)):
        thread = threading.Thread(target=draw)
        thread.start()
        wait_for(lambda: (live := served.desk.oldest("sdapi")) and live.progress)
        act()
        thread.join(30)
        assert len(results[-1].images) == images
    assert [job.state for job in served.desk.jobs.jobs(limit=2)] == ["done", "cancelled"]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"sampler_name": "nonsense"}, 404, "Sampler not found"),
        ({"scheduler": "nonsense"}, 404, "Scheduler not found"),
        ({"enable_hr": True, "hr_upscaler": "ESRGAN_4x"}, 404, "a second pass has: Latent, Lanczos"),
        ({"enable_hr": True, "hr_prompt": "a boat"}, 422, "both passes have one prompt"),
        ({"enable_hr": True, "hr_resize_x": 32}, 422, "the second pass is told by hr_scale"),
        ({"enable_hr": True, "hr_scale": 9}, 422, "less than or equal to 4"),
        ({"enable_hr": True, "width": 64, "hr_scale": 2}, 422, "a side of 128 pixels"),
        ({"enable_hr": True, "hr_second_pass_steps": 400}, 422, "steps = 404; this server allows up to 400"),
        ({"tiling": True}, 422, "pictures that tile are not drawn"),
        ({"override_settings": {"randn_source": "dice"}}, 422, "there are CPU, GPU, NV"),
        ({"override_settings": {"sd_vae": "other.pt"}}, 422, "with their own autoencoders"),
        ({"refiner_checkpoint": "xl", "refiner_switch_at": 0.8}, 404, "no refiner 'xl'; there is none"),
        ({"refiner_checkpoint": "xl"}, 422, "refiner_switch_at = None with a refiner"),
        ({"override_settings": {"sd_model_checkpoint": "nonsense"}}, 404, "no model 'nonsense'"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"model": "x"}]}}}, 422, "there are no scripts"),
        ({"steps": 401}, 422, "this server allows up to 400"),
        ({"prompt": "a fox <lora:x:1>"}, 422, "no folder of LoRAs was named"),
    ],
)
def test_what_cannot_be_had_is_refused(served: Served, change: dict[str, Any], status: int, words: str) -> None:
    answer = httpx.post(f"{served.url}/sdapi/v1/txt2img", json={"prompt": "a fox", **SMALL, **change}, timeout=30)

    assert answer.status_code == status and words in answer.json()["detail"]
    assert set(answer.json()) == {"error", "detail", "body", "errors"}


def test_a_picture_is_needed_and_files_are_never_read(served: Served) -> None:
    url = f"{served.url}/sdapi/v1/img2img"
    missing = httpx.post(url, json={"prompt": "a fox"})
    assert (missing.status_code, missing.json()["detail"]) == (404, "Init image not found")
    for source in ("/etc/passwd", "http://127.0.0.1:9/x.png", "file:///etc/passwd"):
        answer = httpx.post(url, json={"prompt": "a fox", "init_images": [source]})
        assert answer.status_code == 422 and "no picture" in answer.json()["detail"]


def test_a_refiner_is_asked_for_by_name(tiny_model: LatentDiffusion, tiny_folder: Path, tmp_path: Path) -> None:
    second = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for key, weight in second.denoiser.network.named_parameters():
            weight.add_(0.1 * normal(weight.shape, "refiner", key))

    def opened(loaded: LatentDiffusion) -> Generator:
        return Generator(loaded, refiner=second, device="cpu", precision="fp32", batch=1, tell=None)

    shelf = Models(str(tiny_folder), opened=opened, refiner="refiners/second.safetensors")
    with serving(Desk(Jobs(tmp_path), shelf, Limits(), batch=4)) as one:
        api = webuiapi.WebUIApi(port=one.port)
        named = {"refiner_checkpoint": "Second.safetensors [abc]", "refiner_switch_at": 0.5}
        drawn = httpx.post(f"{one.url}/sdapi/v1/txt2img", json={"prompt": "a fox", **SMALL, **named}, timeout=30).json()
        plain = api.txt2img(prompt="a fox", cfg_scale=7, sampler_name="Euler", **SMALL)
        other = httpx.post(f"{one.url}/sdapi/v1/txt2img", json={"prompt": "a fox", **named, "refiner_checkpoint": "third"})
    image = Image.open(io.BytesIO(base64.b64decode(drawn["images"][0])))
    request = Request("a fox", guidance=7, solver="Euler", refine_at=0.5, **SMALL)
    assert furthest(image, opened(tiny_model)(request).images[0]) <= 1
    assert furthest(image, plain.image) > 1
    assert other.status_code == 404 and "there is 'second'" in other.json()["detail"]


def test_a_client_that_leaves_ends_its_job(served: Served) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}/sdapi/v1/txt2img", json={**SMALL, "steps": 400, "batch_size": 4}, timeout=0.4)

    wait_for(lambda: not served.desk.live)
    assert served.desk.jobs.jobs(limit=1)[0].state == "cancelled"
