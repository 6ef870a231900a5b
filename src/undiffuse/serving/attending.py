"""Waiting for a job on behalf of a client: when the client goes, so does the job."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request as Http

from undiffuse.core.errors import Busy, explain
from undiffuse.serving.desk import Desk
from undiffuse.serving.live import LAST, Event, Live

LOOK = 0.2  # seconds between looks at whether the client is still there


async def attended(desk: Desk, live: Live, http: Http) -> AsyncGenerator[Event]:
    """The events of a job to the last one. Who stops reading, or is gone, ends the job."""
    follower = live.follow()
    looked = time.monotonic()
    over = False
    try:
        while not over:
            event = await follower.next(LOOK)
            if event is not None:
                over = event.kind in LAST
                yield event
            if time.monotonic() - looked > LOOK:
                looked = time.monotonic()
                if await http.is_disconnected():
                    return
    finally:  # nothing is awaited here: the task may be cancelled
        follower.close()
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
