"""The server keeps what its OpenAPI document promises, whatever it is sent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from tests.serving.conftest import Served, make_desk, serving

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

EXAMPLES = 8


@pytest.fixture(scope="module")
def bounded(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that lets nobody ask for much."""
    with serving(make_desk(tmp_path_factory.mktemp("bounded"), tiny_folder, steps=3, side=16, count=1, seconds=5.0)) as one:
        yield one


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_answers_are_as_documented(bounded: Served, mode: str) -> None:
    schema = schemathesis.openapi.from_url(f"{bounded.url}/openapi.json").include(path_regex="^/(api|health|metrics)")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 10

    for operation in operations:

        @SETTINGS
        @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        def holds(case: schemathesis.Case) -> None:
            case.validate_response(case.call(timeout=20), checks=CHECKS)

        with suppress(Unsatisfiable):  # where nothing can be said, nothing can be said wrongly
            holds()


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits", "/sdapi/v1/txt2img", "/sdapi/v1/img2img"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"prompt": 3}', b'{"prompt": "a", "steps": "x"}', b"\xff\xfe"])
def test_no_body_breaks_the_other_dialects(bounded: Served, path: str, body: bytes) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain"):
        answer = httpx.post(bounded.url + path, content=body, headers={"content-type": kind}, timeout=20)
        assert 400 <= answer.status_code < 500, answer.text
