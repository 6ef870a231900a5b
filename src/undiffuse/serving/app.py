"""The web application: three dialects over one desk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.cors import CORSMiddleware

from undiffuse.core.version import VERSION
from undiffuse.serving import metrics as measured
from undiffuse.serving.desk import Desk
from undiffuse.serving.dialects import openai, own, own_traces, sdapi
from undiffuse.serving.guard import Guard
from undiffuse.serving.problems import install


class Door(BaseModel):
    """Who may come in; see `guard.Guard`."""

    model_config = ConfigDict(frozen=True)

    keys: tuple[str, ...] = Field(default=(), repr=False)
    hosts: frozenset[str] | None = None
    origins: tuple[str, ...] = ()


class Health(BaseModel):
    """That the server is there."""

    status: str
    version: str


def build_app(desk: Desk, door: Door | None = None) -> FastAPI:
    """The application; it opens the desk when it starts and closes it when it ends."""
    door = door or Door()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        desk.open()
        yield
        desk.close()

    app = FastAPI(
        title="undiffuse",
        version=VERSION,
        summary="Pictures by latent diffusion: our own dialect, that of OpenAI's images, and that of A1111's web UI.",
        lifespan=lifespan,
    )
    install(app)
    for dialect in (own, own_traces, openai, sdapi):
        app.include_router(dialect.router(desk))

    @app.get("/health", tags=["server"])
    def health() -> Health:
        """Whether the server is there; needs no key."""
        return Health(status="stopping" if desk.closing else "ok", version=VERSION)

    @app.get("/metrics", tags=["server"], response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """What the server has done, for Prometheus."""
        return PlainTextResponse(measured.metrics(desk), media_type=measured.MEDIA_TYPE)

    app.add_middleware(Guard, keys=door.keys, hosts=door.hosts, origins=door.origins, body=desk.limits.body)
    if door.origins:
        app.add_middleware(CORSMiddleware, allow_origins=door.origins, allow_methods=["*"], allow_headers=["*"])
    return app
