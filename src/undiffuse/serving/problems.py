"""Errors as each dialect tells them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from undiffuse.core.errors import Busy, Cancelled, CheckpointError, DataError, TimedOut, UndiffuseError, UsageError
from undiffuse.serving.live import told

RETRY_AFTER = "5"  # seconds
LOG = logging.getLogger("undiffuse.serving")
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (Busy, 429),
    (TimedOut, 504),
    (Cancelled, 409),
    (UsageError, 422),
    (DataError, 422),
    (CheckpointError, 404),
)


def problem(path: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that tells of an error, in the form of the dialect that this path belongs to."""
    if path.startswith("/v1/"):
        status = 400 if status == 422 else status
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        content: object = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    elif path.startswith("/sdapi/"):
        content = {"error": "Error" if status >= 500 else "Refused", "detail": message, "body": "", "errors": message}
    else:
        content = {"detail": message}
    return JSONResponse(content, status, dict(headers or {}))


def problem_of(path: str, error: Exception) -> JSONResponse:
    """The same for an exception."""
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    return problem(path, status, told(error), {"Retry-After": RETRY_AFTER} if status == 429 else None)


def install(app: FastAPI) -> None:
    """Have the app answer errors so."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        return problem_of(request.url.path, error)

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_of(request.url.path, error)

    async def plain(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return problem(request.url.path, error.status_code, str(error.detail), error.headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        return problem(request.url.path, 422, "; ".join(lines))

    app.add_exception_handler(UndiffuseError, ours)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
