"""Request bodies: right type, bounded in bytes and in time."""

import asyncio
from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.requests import Request

from mooring.settings import ServerLimits

JSON, CSV = "application/json", "text/csv"
PARQUET = "application/vnd.apache.parquet"


async def read_body(
    request: Request, types: Collection[str], limits: ServerLimits
) -> tuple[str, bytes]:
    """Return media type and body within the limits; answers 408, 413 or 415 otherwise."""
    limit, seconds = limits.max_body_bytes, limits.body_seconds
    media_type = _media_type(request, types)
    _check_encoding(request)
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length[:20]) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            return media_type, await _read(request, limit)
    except TimeoutError:
        message = f"The body must arrive within {seconds:g} s."
        raise HTTPException(408, message, {"connection": "close"}) from None


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _media_type(request: Request, types: Collection[str]) -> str:
    media_type, *options = request.headers.get("content-type", "").lower().split(";")
    media_type = media_type.strip()
    if media_type not in types:
        raise HTTPException(
            415,
            f"`Content-Type` must be {_listed(types)}. Given: {media_type[:60] or 'none'}.",
        )
    for option in options:
        name, _, value = option.partition("=")
        if name.strip() != "charset" or value.strip().strip('"') not in ("utf-8", "utf8"):
            raise HTTPException(
                415,
                "The only option of `Content-Type` is charset=utf-8. "
                f"Given: {option.strip()[:40]}.",
            )
    return media_type


def _listed(types: Collection[str]) -> str:
    *most, last = types
    return f"{', '.join(most)} or {last}" if most else last


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise HTTPException(
            415, f"`Content-Encoding` must be identity. Given: {encoding[:40]}. Send it plain."
        )


def _too_large(limit: int) -> HTTPException:
    message = f"The body must have at most {limit} bytes. Send less, or raise --max-body-bytes."
    return HTTPException(413, message, {"connection": "close"})
