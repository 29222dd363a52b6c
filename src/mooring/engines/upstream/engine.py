"""The engine whose tokens another server generates: its life, and who answers what."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import NoReturn

from mooring.engines.admission import check_request
from mooring.engines.contract import Capabilities, EngineObserver
from mooring.engines.description import EngineDescription
from mooring.engines.process.handle import ChildDied
from mooring.engines.process.supervised import LOOK_SECONDS, SupervisedEngine
from mooring.engines.process.watch import Watch
from mooring.engines.upstream.answer import Answer
from mooring.engines.upstream.connection import Connection, ConnectionLost, Refusal
from mooring.engines.upstream.dialect import NotUnderstood
from mooring.engines.upstream.presets import DIALECTS, command_of, kind_of
from mooring.engines.upstream.server import CLOSE_SECONDS, Server, free_port
from mooring.errors import EngineError, EngineStopped, RequestFailed, ServerBusy
from mooring.generation import Failed, GenerationRequest, Started
from mooring.settings import UpstreamSettings

logger = logging.getLogger(__name__)

# How long a server whose connection broke may take until it is known to have died.
_DYING_SECONDS = 1.0
_BUSY = (429, 503)

TextOf = Callable[[Sequence[int]], str | None]


class UpstreamEngine(SupervisedEngine):
    """Tokens from a server that `description.settings.upstream` starts or finds.

    A server that we start is supervised like any child. One that runs elsewhere is only asked:
    while its health does not answer the engine counts as restarting, and requests fail one by one.
    `text_of` returns the text that the server reads as exactly these token ids, None if there is
    none; only dialects that take text need it.
    """

    def __init__(
        self,
        description: EngineDescription,
        text_of: TextOf,
        observer: EngineObserver | None = None,
    ) -> None:
        super().__init__(description.settings.hang_seconds, observer)
        self._description = description
        self._upstream = description.settings.upstream or UpstreamSettings()
        self._kind = kind_of(self._upstream)
        self._dialect = DIALECTS[self._kind]()
        self._text_of = text_of
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._places = _places(description)
        self._connection: Connection | None = None
        self._server: Server | None = None
        self._model: str | None = None

    def _hand_over(self, request: GenerationRequest) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin, request)

    def _withdraw(self, request_id: str) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._abandon, request_id)

    def _live_once(self, watch: Watch) -> None:
        port = free_port()
        if self._upstream.url is None:
            self._server = Server(self._command(port))
        try:
            asyncio.run(self._live_with(self._upstream.url or f"http://127.0.0.1:{port}", watch))
        finally:
            if self._server is not None:
                closing = self._closing.is_set() and watch.open
                self._server.end(grace=CLOSE_SECONDS if closing else 0)
                self._server = None

    def _command(self, port: int) -> list[str]:
        description = self._description
        values = {
            "snapshot": description.snapshot,
            "port": port,
            "context_length": self._context_length,
            "max_running": description.settings.max_running,
        }
        trusts = description.trust_remote_code
        return command_of(self._upstream, values, trust_remote_code=trusts)

    @property
    def _context_length(self) -> int:
        own = self._description.context_length
        return min(self._description.settings.context_length or own, own)

    async def _live_with(self, url: str, watch: Watch) -> None:
        connection = Connection(url, self._upstream.api_key, lambda: watch.heard(0, busy=False))
        self._places = _places(self._description)
        try:
            await self._await_ready(connection)
            if self._closing.is_set():
                return
            capabilities = await self._greet(connection)
            watch.opened()
            with self._lock:
                self._connection, self._loop = connection, asyncio.get_running_loop()
                self._resume(capabilities)
            self._announce(capabilities)
            await self._attend(connection, watch)
        finally:
            await self._part(connection)

    async def _await_ready(self, connection: Connection) -> None:
        """Wait until the server answers; it may take `start_seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._upstream.start_seconds
        while not self._closing.is_set():
            if self._server is not None and self._server.ended:
                self._not_started(self._server.cause())
            if await connection.is_healthy():
                if self._server is not None:
                    self._server.forget_output()
                return
            if loop.time() > deadline:
                self._not_started(f"it was not ready within {self._upstream.start_seconds:g} s")
            self._ledger.settle()
            await asyncio.sleep(LOOK_SECONDS)

    def _not_started(self, why: str) -> NoReturn:
        """Raise what says so: for good at the first start, as one more death later."""
        if self._started.done():
            raise ChildDied(why)
        output = self._server.last_output() if self._server is not None else ""
        said = f" Its last output:\n{output}" if output else ""
        where = self._upstream.url or "started by the upstream command"
        raise EngineError(f"The upstream server ({where}) did not start: {why}.{said}")

    async def _greet(self, connection: Connection) -> Capabilities:
        model = await connection.first_model() if self._dialect.lists_models else {}
        about = self._dialect.about(model)
        self._model = about.name
        context = self._context_length
        return Capabilities(
            name="upstream",
            version=self._kind,
            device="upstream",
            precision=about.precision,
            context_length=min(context, about.context_length or context),
            vocabulary_size=self._description.vocabulary_size,
            max_running=self._description.settings.max_running,
            unsupported=self._dialect.unsupported,
            top_logprobs=self._dialect.top_logprobs,
            grammars=self._dialect.grammars,
            tells_ids=not self._dialect.writes_text or self._dialect.ids_at_once,
        )

    async def _attend(self, connection: Connection, watch: Watch) -> None:
        """Watch until this engine closes; raise `ChildDied` when a server of ours dies."""
        polling = asyncio.create_task(_poll(connection, watch.heartbeat_seconds))
        away = False
        try:
            while not self._closing.is_set():
                await asyncio.sleep(LOOK_SECONDS)
                self._ledger.settle()
                complaint = watch.complaint(0)
                if self._server is None:
                    away = self._tell(complaint, away)
                elif self._server.ended:
                    raise ChildDied(self._server.cause())
                elif complaint is not None:
                    raise ChildDied(complaint)
        finally:
            polling.cancel()

    def _tell(self, complaint: str | None, away: bool) -> bool:
        """Tell the observer when a server that is not ours goes away or comes back."""
        if self._observer is not None and away != (complaint is not None):
            if complaint is None:
                logger.info("The upstream server is back.")
                self._observer.engine_restarted()
            else:
                logger.warning("The upstream server does not answer: %s.", complaint)
                self._observer.engine_restarting()
        return complaint is not None

    async def _part(self, connection: Connection) -> None:
        with self._lock:
            self._connection = self._loop = None
        if self._closing.is_set():
            self._ledger.fail_all(self._why_stopped)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()

    def _begin(self, request: GenerationRequest) -> None:
        if self._connection is not None and request.id not in self._tasks:
            task = asyncio.create_task(self._run(self._connection, request))
            self._tasks[request.id] = task
            task.add_done_callback(lambda _: self._forget(request.id))

    def _abandon(self, request_id: str) -> None:
        task = self._tasks.get(request_id)
        if task is not None:
            task.cancel()

    def _forget(self, request_id: str) -> None:
        del self._tasks[request_id]
        self._ledger.let_go(request_id)

    async def _run(self, connection: Connection, request: GenerationRequest) -> None:
        async with self._places:
            self._pass_on(request.id, Started())
            try:
                await self._answer(connection, request)
            except ConnectionLost as loss:
                await self._lost(request, str(loss))
            except Refusal as refusal:
                self._fail(request, _refused(refusal.status))
            except NotUnderstood as trouble:
                self._fail(request, _not_understood(str(trouble)))
            except Exception as error:  # whatever a server sends, its request must end
                logger.exception("An answer of the upstream server could not be read.")
                self._fail(request, _not_understood(f"reading it raised {type(error).__name__}"))

    async def _answer(self, connection: Connection, request: GenerationRequest) -> None:
        assert self._capabilities is not None
        answer = Answer(
            request,
            self._dialect,
            max_tokens=check_request(request, self._capabilities),
            end_token_ids=self._description.end_token_ids,
        )
        text = ""
        if self._dialect.takes_text:
            found = await asyncio.to_thread(self._text_of, answer.input_ids)
            if found is None:
                self._fail(request, _no_text())
                return
            text = found
        body = self._dialect.body(answer.question(text, self._model))
        async with aclosing(connection.ask(self._dialect.path, body)) as messages:
            async for message in messages:
                self._steps += 1
                for event in answer.take(message):
                    if not self._pass_on(request.id, event):
                        return
                if answer.complete:
                    break
        for end in answer.end():
            self._pass_on(request.id, end)

    async def _lost(self, request: GenerationRequest, why: str) -> None:
        """Leave the request to the next life if the server dies now, else fail it alone."""
        for _ in range(round(_DYING_SECONDS / LOOK_SECONDS)):
            if self._server is None:
                break
            await asyncio.sleep(LOOK_SECONDS)
            if self._server.ended:
                return
        logger.warning("The upstream server broke off an answer: %s.", why)
        self._fail(request, EngineStopped("The upstream server broke off. Send the request again."))

    def _fail(self, request: GenerationRequest, error: EngineError) -> None:
        self._pass_on(request.id, Failed(error))


def _places(description: EngineDescription) -> asyncio.Semaphore:
    return asyncio.Semaphore(description.settings.max_running)


async def _poll(connection: Connection, seconds: float) -> None:
    while True:
        await connection.is_healthy()
        await asyncio.sleep(seconds)


def _refused(status: int) -> EngineError:
    logger.warning("The upstream server answered %d.", status)
    if status in _BUSY:
        return ServerBusy("The upstream server has no free place. Try again shortly.")
    return RequestFailed(
        "The upstream server refused this request. The server's log has its status."
    )


def _not_understood(why: str) -> EngineError:
    logger.warning("The upstream server was not understood: %s.", why)
    return RequestFailed("The upstream server failed at this answer. The server's log says why.")


def _no_text() -> EngineError:
    return RequestFailed(
        "This prompt cannot be put into text that the upstream server reads as the same tokens, "
        "and that server takes only text. Send text instead of token ids, or serve the model with "
        "another engine."
    )
