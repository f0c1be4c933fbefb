# SPDX-License-Identifier: Apache-2.0
"""The picture in a request: its body is read within bounds, and into memory only."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from .limits import Limits

FIELD = "file"  # of a form
_FRAME = 10_000  # bytes of a body besides the picture
_DATA_URL = "data:image/"
_MOST_PARTS = 100  # of JSON: base64 has none of the signs that parts begin with
CLIENT_LEFT = 499  # status, as nginx has it: nobody reads the answer


class Upload(NamedTuple):
    """What a client asks.

    Attributes:
        data: an image file's bytes.
        min_score: detections below are not wanted; None where the request does not say.
    """

    data: bytes
    min_score: float | None


async def read_upload(request: Request, limits: Limits) -> Upload:
    """Read a request: a form with the field `file`, JSON with the key `image`, or a bare picture.

    Args:
        request: its body is read.
        limits: uses max_bytes and read_timeout.

    Raises:
        HTTPException: 400, 408, 413, 415 or 499 (the client has left), with the reason.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json"
    most = limits.max_bytes * 4 // 3 if is_json else limits.max_bytes  # base64
    body = await _read_body(request, most + _FRAME, limits)
    if is_json:
        # Text of many megabytes is taken apart beside the loop that answers others.
        upload = await asyncio.to_thread(_from_json, body)
    elif kind == "multipart/form-data":
        upload = await _from_form(request, body, limits)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        upload = Upload(body, None)
    else:
        raise HTTPException(
            415, "send multipart/form-data, application/json, or a picture as image/..."
        )
    if len(upload.data) > limits.max_bytes:
        raise _too_large(limits)
    if not upload.data:
        raise HTTPException(400, "the picture is empty")
    asked = request.query_params.get("min_score")
    return upload if asked is None else upload._replace(min_score=_score(asked))


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(413, f"a picture has at most {limits.max_bytes} bytes")


async def _read_body(request: Request, most: int, limits: Limits) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > most:
        raise _too_large(limits)

    async def read() -> bytes:
        pieces, length = [], 0
        async for piece in request.stream():
            length += len(piece)
            if length > most:
                raise _too_large(limits)
            pieces.append(piece)
        return b"".join(pieces)

    try:
        return await asyncio.wait_for(read(), limits.read_timeout)
    except asyncio.TimeoutError:
        raise HTTPException(
            408,
            f"the request was not there within {limits.read_timeout:g} s",
            {"Connection": "close"},
        ) from None
    except ClientDisconnect:
        raise HTTPException(CLIENT_LEFT, "the client has left") from None


def _from_json(body: bytes) -> Upload:
    if sum(body.count(sign) for sign in (b"{", b"[", b",")) > _MOST_PARTS:
        raise HTTPException(400, f"the JSON has more than {_MOST_PARTS} of {{ [ and ,")
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None
    text = content.get("image") if isinstance(content, dict) else None
    if not isinstance(text, str):
        raise HTTPException(400, 'give {"image": "..."}, the file\'s bytes in base64')
    if text.startswith(_DATA_URL):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(
            400, "image is not base64; it holds the file's bytes, no path and no address"
        ) from None
    asked = content.get("min_score")
    return Upload(data, None if asked is None else _score(asked))


async def _from_form(request: Request, body: bytes, limits: Limits) -> Upload:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        request.headers, stream(), max_files=1, max_fields=4, max_part_size=_FRAME
    )
    parser.spool_max_size = limits.max_bytes + _FRAME  # nothing goes to a temporary file
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "") or "it is damaged"
        raise HTTPException(400, f"the form cannot be read: {reason}") from None
    try:
        upload, asked = form.get(FIELD), form.get("min_score")
        if not isinstance(upload, UploadFile):
            raise HTTPException(400, f"the form has no picture in the field {FIELD}")
        return Upload(await upload.read(), None if asked is None else _score(asked))
    finally:
        await form.close()


def _score(value: object) -> float:
    try:
        score = float(value) if isinstance(value, str | int | float) else -1.0
    except (ValueError, OverflowError):
        score = -1.0
    if not 0.0 <= score <= 1.0:
        raise HTTPException(400, "min_score is a number from 0 to 1")
    return score
