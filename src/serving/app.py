# SPDX-License-Identifier: Apache-2.0
"""The web application: a page, /predict and /health."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp

from .. import __version__
from ..base.errors import UserError
from ..predicting.entries import detections_of
from .engine import Answer, Engine, TooLargeError
from .guard import Guard
from .limits import Limits
from .uploads import CLIENT_LEFT, FIELD, read_upload

DEFAULT_MIN_SCORE = 0.5
_FILE = {"type": "string", "format": "binary"}
_SCORE = {"type": "number", "minimum": 0, "maximum": 1, "default": DEFAULT_MIN_SCORE}
_REQUEST = {  # of /predict, for /openapi.json
    "parameters": [{"name": "min_score", "in": "query", "schema": _SCORE}],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: _FILE, "min_score": _SCORE},
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "byte"},
                        "min_score": _SCORE,
                    },
                }
            },
            "image/*": {"schema": _FILE},
        },
    },
}


class Service:
    """Answers requests.

    Args:
        engine: looks at pictures.
        limits: of a request.
        min_score: detections below are left out where a request does not say.
    """

    def __init__(self, engine: Engine, limits: Limits, min_score: float) -> None:
        self._engine, self._limits, self._min_score = engine, limits, min_score
        self._in_hand = self._left = 0

    async def predict(self, request: Request) -> dict[str, Any]:
        """Answer with what is in the picture of a request.

        Args:
            request: see `read_upload`.

        Raises:
            HTTPException: what is wrong with it; 503 when too many wait, 504 when it takes too
                long.
        """
        if self._in_hand >= self._limits.queue:  # before any of its body is read
            raise HTTPException(503, "too many requests wait; try again", {"Retry-After": "1"})
        self._in_hand += 1
        start = time.monotonic()
        try:
            answer = await asyncio.wait_for(self._answer(request), self._limits.timeout)
        except asyncio.TimeoutError:
            raise HTTPException(
                504, f"there was no answer within {self._limits.timeout:g} s"
            ) from None
        except HTTPException as error:
            self._left += error.status_code == CLIENT_LEFT
            raise
        finally:
            self._in_hand -= 1
        return {**answer, "seconds": round(time.monotonic() - start, 4)}

    async def _answer(self, request: Request) -> dict[str, Any]:
        upload = await read_upload(request, self._limits)
        try:
            answer = await _while_connected(request, self._engine.detect(upload.data))
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from None
        except UserError as error:
            raise HTTPException(422, str(error)) from None
        low = self._min_score if upload.min_score is None else upload.min_score
        found = detections_of(answer.found, self._engine.class_names, low)
        return {"width": answer.width, "height": answer.height, "detections": found}

    def health(self) -> dict[str, Any]:
        """Say how the server is.

        Raises:
            HTTPException: 503 when it looks at no pictures any more.
        """
        engine = self._engine
        if not engine.is_alive:
            raise HTTPException(503, "the detector has ended")
        return {
            "status": "ok",
            "version": __version__,
            "in_hand": self._in_hand,
            "left": self._left,
            "queue": self._limits.queue,
            "batch": engine.size,
            "batches": engine.batches,
            "pictures": engine.pictures,
            "canvases": engine.canvases,
            "classes": list(engine.class_names),
        }


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Await an answer that is given up when its client leaves, so that nobody waits behind it.

    Args:
        request: its body has been read.
        work: gives the answer.

    Raises:
        HTTPException: the client has left.
    """
    answering = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())  # after the body nothing else comes
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise HTTPException(CLIENT_LEFT, "the client has left")
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()


def build_app(
    engine: Engine,
    limits: Limits,
    page: str,
    *,
    min_score: float = DEFAULT_MIN_SCORE,
    hosts: frozenset[str] | None = None,
) -> ASGIApp:
    """Return the application.

    Args:
        engine: looks at pictures.
        limits: of a request.
        page: HTML that `/` answers with.
        min_score: detections below are left out where a request does not say.
        hosts: names that requests may call this server by; None: any.
    """
    service = Service(engine, limits, min_score)
    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(title="Faster R-CNN", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """How the server is, and what it looks for."""
        return service.health()

    @app.post("/predict", openapi_extra=_REQUEST)
    async def predict(request: Request) -> dict[str, Any]:
        """Find the objects in a picture; boxes are x1, y1, x2, y2 in its pixels."""
        return await service.predict(request)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the server failed; its log says why"}, 500)

    return Guard(app, hosts)
