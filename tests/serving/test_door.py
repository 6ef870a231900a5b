"""Who gets in: keys, hosts, origins, sizes."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import webuiapi
from tests.serving.conftest import Served, make_desk, serving

from undiffuse.core.errors import UsageError
from undiffuse.serving.run import door_of

KEY = "a-long-random-key"
PAGE = "https://paint.example"


@pytest.fixture(scope="module")
def locked(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with two keys and one page that may use it."""
    door = door_of("127.0.0.1", keys=("another-long-key", KEY), origins=(PAGE,))
    with serving(make_desk(tmp_path_factory.mktemp("locked"), tiny_folder), door) as one:
        yield one


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Bearer {KEY}x"}, 401),
        ({"authorization": "Basic nonsense"}, 401),
        ({"authorization": basic("wrong")}, 401),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": "Bearer another-long-key"}, 200),
        ({"authorization": basic(KEY)}, 200),
        ({"x-api-key": KEY}, 200),
    ],
)
def test_a_key_opens(locked: Served, headers: dict[str, str], status: int) -> None:
    for path in ("/api/models", "/v1/models", "/sdapi/v1/options", "/metrics", "/docs", "/openapi.json"):
        assert httpx.get(locked.url + path, headers=headers).status_code == status


def test_health_needs_no_key_and_refusals_speak_the_dialect(locked: Served) -> None:
    assert httpx.get(f"{locked.url}/health").status_code == 200
    assert httpx.get(f"{locked.url}/v1/models").json()["error"]["type"] == "invalid_request_error"
    assert "detail" in httpx.get(f"{locked.url}/sdapi/v1/options").json()


def test_webuiapi_logs_in(locked: Served) -> None:
    api = webuiapi.WebUIApi(port=locked.port, username="anybody", password=KEY)

    assert api.get_options()["sd_model_checkpoint"]


def test_an_empty_authorization_is_no_harm_where_there_is_no_key(served: Served) -> None:
    assert httpx.get(f"{served.url}/sdapi/v1/options", headers={"authorization": ""}).status_code == 200


def test_pages_of_others_may_not_use_the_server_through_a_browser(served: Served, locked: Served) -> None:
    def status(where: Served, origin: str, **headers: str) -> int:
        return httpx.post(f"{where.url}/sdapi/v1/interrupt", headers={"origin": origin, **headers}).status_code

    assert status(served, "https://evil.example") == 403
    assert status(served, "null") == 403
    assert status(served, served.url) == 200  # its own pages
    assert "access-control-allow-origin" not in httpx.get(f"{served.url}/health", headers={"origin": served.url}).headers
    assert status(locked, PAGE, authorization=f"Bearer {KEY}") == 200
    assert status(locked, "https://evil.example", authorization=f"Bearer {KEY}") == 403
    asked = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    allowed = httpx.options(f"{locked.url}/api/jobs", headers=asked)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)


def test_a_name_of_somebody_else_that_points_here_gets_nowhere(served: Served) -> None:
    assert httpx.get(f"{served.url}/health", headers={"host": f"evil.example:{served.port}"}).status_code == 403
    assert httpx.get(f"{served.url}/health", headers={"host": f"localhost:{served.port}"}).status_code == 200


def test_too_many_bytes_are_refused_announced_or_not(served: Served) -> None:
    body = b'{"prompt": "' + b"a" * 2_100_000 + b'"}'
    headers = {"content-type": "application/json"}
    assert httpx.post(f"{served.url}/api/jobs", content=body, headers=headers).status_code == 413

    def unannounced() -> Iterator[bytes]:
        yield from (body[start : start + 100_000] for start in range(0, len(body), 100_000))

    assert httpx.post(f"{served.url}/api/jobs", content=unannounced(), headers=headers).status_code == 413


def test_a_form_is_bounded_too(served: Served) -> None:
    files = {"image": ("x.png", b"0" * 2_100_000, "image/png")}
    assert httpx.post(f"{served.url}/v1/images/edits", data={"prompt": "a"}, files=files).status_code == 413


def test_nonsense_on_the_wire_does_no_harm(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as raw:
        raw.sendall(b"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n")
        assert b" 400 " in raw.recv(1000)
    assert httpx.get(f"{served.url}/health").status_code == 200


def test_others_are_let_in_with_a_key_alone_unless_somebody_says_so() -> None:
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(UsageError, match="without a key"):
            door_of(host)
        assert door_of(host, keys=(KEY,)).hosts is None
        assert door_of(host, insecure=True).keys == ()
    assert all(door_of(host).hosts for host in ("127.0.0.1", "localhost", "::1"))
    with pytest.raises(UsageError, match="8 or more"):
        door_of("127.0.0.1", keys=("short",))
    assert KEY not in repr(door_of("0.0.0.0", keys=(KEY,)))


@pytest.mark.parametrize(
    ("accept", "kind"), [("text/html,application/xhtml+xml", "Basic"), ("application/json", "Bearer"), ("*/*", "Bearer")]
)
def test_browsers_are_told_to_ask_for_the_key(locked: Served, accept: str, kind: str) -> None:
    answer = httpx.get(f"{locked.url}/docs", headers={"accept": accept})

    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith(f"{kind} realm=")
