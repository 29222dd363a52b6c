"""Any OpenAI-compatible server as something to measure: streamed `/v1/completions`."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import psutil

from mooring.bench.target import Answer, Ask
from mooring.errors import BenchmarkFailed, InvalidInput, MooringError

CONNECT_SECONDS = 10.0
_REFUSED = (400, 404, 422)
_WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "was",
    "for",
    "on",
    "that",
    "with",
    "as",
    "it",
    "at",
    "by",
    "from",
    "his",
    "an",
    "were",
    "are",
    "which",
    "this",
    "be",
    "had",
    "or",
    "has",
    "not",
    "but",
    "their",
    "one",
    "first",
    "also",
    "its",
    "new",
    "after",
    "who",
    "they",
    "two",
    "her",
    "she",
    "been",
    "other",
    "when",
    "time",
    "there",
    "all",
    "during",
    "into",
    "school",
    "more",
    "up",
    "would",
    "years",
    "where",
    "about",
    "them",
    "some",
    "over",
]

# What a server may not know, the most wanted first: prompts as token ids, and these fields.
_EXTRAS: Mapping[str, Any] = {"ignore_eos": True, "stream_options": {"include_usage": True}}


class ServerTarget:
    """Measures the server at `url`.

    `model` is the name to ask for, the server's first if None. `text_of` makes the text of a prompt
    for servers that take no token ids; by default common words, about one token each.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        name: str | None = None,
        text_of: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        self.name = name or url
        self._base = url.rstrip("/").removesuffix("/v1")
        self._model = model
        self._text_of = text_of or _words
        self._takes_ids = True
        self._extras = dict(_EXTRAS)
        self._counted = "each piece"
        self._runner: asyncio.Runner | None = None
        self._client: httpx.AsyncClient | None = None

    def open(self) -> dict[str, str]:
        """Find the model and what the server understands."""
        self._runner = asyncio.Runner()
        return self._runner.run(self._greet())

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send every request on a connection of its own and read them to the end."""
        assert self._runner is not None, "open comes first"
        return self._runner.run(self._answer_all(asks))

    def processes(self) -> list[int]:
        """Return the process that listens, where it is on this machine and can be seen."""
        address = urlsplit(self._base)
        if address.hostname not in ("127.0.0.1", "localhost", "::1"):
            return []
        port = address.port or (443 if address.scheme == "https" else 80)
        return _listening(port)

    def close(self) -> None:
        """Close the connections."""
        if self._runner is None:
            return
        if self._client is not None:
            self._runner.run(self._client.aclose())
        self._runner.close()
        self._runner = self._client = None

    async def _greet(self) -> dict[str, str]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS), limits=limits
        )
        if self._model is None:
            self._model = await self._first_model()
        await self._learn()
        return {
            "model": self._model,
            "prompts": "token ids" if self._takes_ids else "text",
            "end token ignored": "yes" if "ignore_eos" in self._extras else "not understood",
            "tokens counted": self._counted,
        }

    async def _first_model(self) -> str:
        assert self._client is not None
        try:
            response = await self._client.get(f"{self._base}/v1/models", timeout=CONNECT_SECONDS)
            return str(response.raise_for_status().json()["data"][0]["id"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            raise BenchmarkFailed(
                f"An OpenAI-compatible server must answer {self._base}/v1/models with its models. "
                f"Given: {type(error).__name__}. Check the address and that it is ready, or name "
                "the model."
            ) from None

    async def _learn(self) -> None:
        """Ask for two tokens, and leave out more of what may not be understood until it works."""
        forms = [(True, True), (False, True), (True, False), (False, False)]
        for takes_ids, extras in forms:
            self._takes_ids = takes_ids
            self._extras = dict(_EXTRAS) if extras else {}
            try:
                await self._one(Ask((5, 6, 7, 8), 2))
            except _Refused as refusal:
                last = refusal
            else:
                return
        raise BenchmarkFailed(last.message)

    async def _answer_all(self, asks: Sequence[Ask]) -> list[Answer]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(ask)) for ask in asks]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _one(self, ask: Ask) -> Answer:
        assert self._client is not None
        await asyncio.sleep(ask.after)
        body = {
            "model": self._model,
            "prompt": list(ask.prompt) if self._takes_ids else self._text_of(ask.prompt),
            "max_tokens": ask.output_tokens,
            "temperature": 0,
            "stream": True,
            **self._extras,
        }
        asked = time.perf_counter()
        reading = _Reading(self.name)
        try:
            async with self._client.stream(
                "POST", f"{self._base}/v1/completions", json=body
            ) as response:
                if response.status_code != 200:
                    raise _refusal(self.name, response.status_code, await response.aread())
                async for part in response.aiter_bytes():
                    reading.take(part)
        except httpx.HTTPError as error:
            raise BenchmarkFailed(
                f"{self.name} must answer every request. Given: {type(error).__name__}. "
                "Look at its log."
            ) from None
        self._counted = "from usage" if reading.usage is not None else "each piece"
        tokens = len(reading.arrivals) if reading.usage is None else reading.usage
        if not reading.arrivals and not tokens:
            raise BenchmarkFailed(f"{self.name} must send at least one token. Given: none.")
        return Answer(asked, tuple(reading.arrivals or [time.perf_counter()]), tokens)


class _Refused(MooringError):
    """The server does not understand the request as it was sent."""


class _Reading:
    """Reads server-sent events: when pieces came, and the usage if told."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self.arrivals: list[float] = []
        self.usage: int | None = None

    def take(self, part: bytes) -> None:
        """Read the whole lines of what has come."""
        now = time.perf_counter()
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and line[5:].strip() not in (b"[DONE]", b""):
                self._event(line[5:], now)

    def _event(self, data: bytes, now: float) -> None:
        try:
            event = msgspec.json.decode(data)
            usage, choices = event.get("usage"), event.get("choices") or []
            failure = event.get("error")
        except (msgspec.DecodeError, AttributeError):
            raise BenchmarkFailed(f"{self._name} must stream JSON objects.") from None
        if failure:
            raise BenchmarkFailed(f"{self._name} failed within an answer: {str(failure)[:200]}")
        if any(choice.get("text") for choice in choices):
            self.arrivals.append(now)
        if usage:
            self.usage = usage.get("completion_tokens")


def _refusal(name: str, status: int, body: bytes) -> MooringError:
    said = " ".join(body[:200].decode(errors="replace").split())
    message = f"{name} must answer /v1/completions with 200. Given: {status} {said}"
    return _Refused(message) if status in _REFUSED else BenchmarkFailed(message)


def _words(ids: Sequence[int]) -> str:
    return " ".join(_WORDS[id % len(_WORDS)] for id in ids)


def _listening(port: int) -> list[int]:
    found = set()
    for process in psutil.process_iter():
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections):
            found.add(process.pid)
    return sorted(found)


def check_url(url: str) -> None:
    """Raise `InvalidInput` unless `url` is the base address of a server."""
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname or address.query:
        raise InvalidInput(
            f"A server is given by its base address, such as http://127.0.0.1:8000. Given: {url}."
        )
