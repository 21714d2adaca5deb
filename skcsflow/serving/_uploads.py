"""The image in a request: read within limits, and out of whatever form it comes in."""

import asyncio
import base64
import binascii
import json
from typing import Any

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message

from skcsflow._images import content_size

__all__ = ["check_image", "read_image_bytes"]

_AROUND = 2**16
"""Bytes that forms and JSON have around the image, at most."""

_WAYS = (
    "Send the image's bytes with Content-Type: image/png (or another image type, or application/octet-stream), a form "
    'with one file (multipart/form-data), or JSON: {"image": "<base64>"}.'
)


async def read_image_bytes(request: Request, max_bytes: int, seconds: float) -> bytes:
    """Read the image of a request.

    Parameters
    ----------
    request : Request
        The request.
    max_bytes : int
        Bytes that the image may have.
    seconds : float
        Time that the upload may take.

    Returns
    -------
    bytes
        The content of the image file.

    Raises
    ------
    HTTPException
        With status 400, 408, 413 or 415, and one sentence.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        image = await _from_form(request, await _read(request, max_bytes + _AROUND, max_bytes, seconds))
    elif kind == "application/json":
        body = await _read(request, max_bytes * 4 // 3 + _AROUND, max_bytes, seconds)
        image = await run_in_threadpool(_from_json, body)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        image = await _read(request, max_bytes, max_bytes, seconds)
    else:
        given = f"The Content-Type {kind} isn't taken." if kind else "The request has no Content-Type."
        raise HTTPException(415, f"{given} {_WAYS}")
    if len(image) > max_bytes:
        raise _too_large(max_bytes)
    if not image:
        raise HTTPException(400, "The image has 0 bytes.")
    return image


def check_image(image: bytes, max_pixels: int) -> None:
    """Check what an image's header says, before anything is decoded.

    Raises
    ------
    HTTPException
        With status 413 for too many pixels, else 400.
    """
    try:
        height, width = content_size(image, "The image")
    except ValueError as error:
        if type(error.__cause__).__name__ == "DecompressionBombError":  # Pillow has a limit of its own
            raise HTTPException(413, f"The image has too many pixels; {max_pixels} are taken.") from error
        raise HTTPException(400, f"{str(error).removesuffix('.')}.") from error
    if height * width > max_pixels:
        raise HTTPException(
            413, f"The image has {height} x {width} pixels, more than the {max_pixels} that are taken."
        )


async def _read(request: Request, limit: int, max_bytes: int, seconds: float) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                # What is announced may be wrong, or missing where a body comes in chunks.
                if len(body) + len(chunk) > limit:
                    raise _too_large(max_bytes)
                body += chunk
    except TimeoutError:
        raise HTTPException(408, f"The upload took more than {seconds:g} seconds.") from None
    except ClientDisconnect:
        raise HTTPException(400, "The upload ended early.") from None
    return bytes(body)


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"The upload is larger than the {max_bytes} bytes that are taken.")


async def _from_form(request: Request, body: bytes) -> bytes:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request(request.scope, receive).form(max_files=2, max_fields=8)
    except HTTPException as error:
        raise HTTPException(400, f"The form can't be read: {error.detail}") from error
    except Exception as error:  # what broken forms raise is of all kinds
        raise HTTPException(400, f"The form can't be read: {error or type(error).__name__}.") from error
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if len(files) != 1:
            raise HTTPException(400, f"The form has {len(files) or 'no'} files; send one image in a request.")
        return await files[0].read()
    finally:
        await form.close()


def _from_json(body: bytes) -> bytes:
    try:
        content: Any = json.loads(body)
    except ValueError as error:
        raise HTTPException(400, f"The JSON can't be read: {error}.") from error
    except RecursionError:
        raise HTTPException(400, "The JSON can't be read: it has too many brackets.") from None
    image = content.get("image") if isinstance(content, dict) else None
    if not isinstance(image, str):
        raise HTTPException(400, 'The JSON must be an object whose "image" is the file in base64, a string.')
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f'The "image" of the JSON is no base64: {error}.') from error
