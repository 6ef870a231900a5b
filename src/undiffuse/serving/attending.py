"""Waiting for a job on behalf of a client: when the client goes, so does the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from starlette.requests import Request as Http

from undiffuse.core.errors import Busy, explain
from undiffuse.serving.desk import Desk
from undiffuse.serving.live import LAST, Event, Live

LOOK = 0.2  # seconds between looks at whether the client is still there


async def attended(desk: Desk, live: Live, http: Http) -> AsyncIterator[Event]:
    """The events of a job to the last one. Who stops reading, or is gone, ends the job."""
    events = live.follow()
    pending: asyncio.Future[Event] | None = None
    over = False
    try:
        while not over:
            pending = pending or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({pending}, timeout=LOOK)
            if done:
                event, pending = pending.result(), None
                over = event.kind in LAST
                yield event
            elif await http.is_disconnected():
                return
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
        await events.aclose()
        if not over:
            desk.drop(live)


async def attend(desk: Desk, live: Live, http: Http) -> Event:
    """The last event of a job.

    Raises:
        Busy: when the server stops meanwhile.
    """
    last = Event("end")
    async with aclosing(attended(desk, live, http)) as events:
        async for event in events:
            last = event
    if last.kind == "closing":
        given = "the server is stopping"
        raise Busy(explain(given, f"job {live.job.id} is run when it is back", f"look at /api/jobs/{live.job.id} then"))
    return last
