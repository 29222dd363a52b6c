"""Whatever order calls begin, end, fail and are given up in: each place comes back, once."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mooring.engines.contract import Capabilities, Emit, Load
from mooring.errors import (
    DeadlineExceeded,
    EngineStopped,
    InvalidParameter,
    MooringError,
    NotReady,
    RequestFailed,
)
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    SamplingParams,
    Started,
    Token,
)
from mooring.observe.record import RequestRecord
from mooring.service.admission import Activity
from mooring.service.stream import TextStream
from mooring.service.text_service import PreparedRequest, TextService
from mooring.settings import ServiceLimits
from tests.service.texts import CHAT, ByteTokenizer

RUNNING, WAITING, WAITING_TOKENS = 2, 4, 20

callers = st.sampled_from("aab")
lengths = st.integers(1, 5)
which = st.integers(0, 20)


class Obedient:
    """An engine that does what the test says, with each sequence that it holds."""

    def __init__(self) -> None:
        self.held: dict[str, Emit] = {}
        self.cancelled: set[str] = set()
        self.refuses_next = False

    def start(self) -> Capabilities:
        return Capabilities("obedient", "1", "cpu", "exact", 64, 300, RUNNING)

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        if self.refuses_next:
            self.refuses_next = False
            raise InvalidParameter("Told to refuse.", param="stop")
        self.held[request.id] = emit

    def cancel(self, request_id: str) -> None:
        if request_id in self.held:
            self.cancelled.add(request_id)

    def load(self) -> Load:
        return Load(len(self.held), 0, 0)

    def close(self) -> None:
        return

    def say(self, which: int, event: Event) -> None:
        """Say something of one of the sequences, unless there is none."""
        if self.held:
            list(self.held.values())[which % len(self.held)](event)

    def end(self, which: int, event: Finished | Failed) -> None:
        """End one of the sequences; as cancelled, if it was."""
        if self.held:
            id = list(self.held)[which % len(self.held)]
            emit = self.held.pop(id)
            emit(Finished("cancelled") if id in self.cancelled else event)
            self.cancelled.discard(id)


class Calls(RuleBasedStateMachine):
    """A service that runs two sequences side by side, and all that can happen to its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.engine = Obedient()
        self.service = TextService(
            engine=self.engine,
            capabilities=self.engine.start(),
            tokenizer=ByteTokenizer(),
            prompt_format=CHAT,
            defaults=SamplingParams(),
            limits=ServiceLimits(max_waiting=WAITING, max_waiting_tokens=WAITING_TOKENS),
        )
        self.streams: list[TextStream] = []
        self.tasks: list[asyncio.Task[Any]] = []

    @initialize(calls=st.lists(st.tuples(callers, lengths), max_size=9))
    def flood(self, calls: list[tuple[str, int]]) -> None:
        """Begin with a server that is full, or nearly so."""
        for caller, length in calls:
            self.complete(caller, [length], 1)
        self.go_on(3)

    @rule(caller=callers, prompts=st.lists(lengths, min_size=1, max_size=2), n=st.integers(1, 2))
    def stream(self, caller: str, prompts: list[int], n: int) -> None:
        async def start() -> TextStream:
            return self.service.start_all(prepared(prompts, n), RequestRecord(key=caller))

        try:
            stream = self.loop.run_until_complete(start())
        except MooringError:
            return
        self.streams.append(stream)
        self.begin(stream.collect())

    @rule(caller=callers, prompts=st.lists(lengths, min_size=1, max_size=4), n=st.integers(1, 3))
    def complete(self, caller: str, prompts: list[int], n: int) -> None:
        self.begin(self.service.complete_all(prepared(prompts, n), RequestRecord(key=caller)))

    @rule(which=which)
    def leave(self, which: int) -> None:
        if self.tasks:
            self.tasks[which % len(self.tasks)].cancel()

    @rule(which=which)
    def take_too_long(self, which: int) -> None:
        if self.streams:
            self.streams[which % len(self.streams)].abort(DeadlineExceeded("Too long."))

    @rule(which=which)
    def engine_starts(self, which: int) -> None:
        self.engine.say(which, Started())

    @rule(which=which, letter=st.sampled_from("ab!"))
    def engine_generates(self, which: int, letter: str) -> None:
        self.engine.say(which, Token(ord(letter)))

    @rule(which=which)
    def engine_finishes(self, which: int) -> None:
        self.engine.end(which, Finished("stop"))

    @rule(which=which)
    def engine_fails(self, which: int) -> None:
        self.engine.end(which, Failed(RequestFailed("Told to fail.")))

    @rule()
    def engine_refuses_the_next(self) -> None:
        self.engine.refuses_next = True

    @rule()
    def engine_dies(self) -> None:
        while self.engine.held:
            self.engine.end(0, Failed(EngineStopped("Told to die.")))

    @rule()
    def drain(self) -> None:
        self.service.refuse_waiting(NotReady("The server is ending."))

    @rule(times=st.integers(1, 8))
    def go_on(self, times: int) -> None:
        """Let everybody take so many steps."""
        for _ in range(times):
            self.loop.run_until_complete(asyncio.sleep(0))

    @invariant()
    def no_more_are_held_than_may_be(self) -> None:
        activity = self.service.activity
        assert 0 <= activity.sequences <= activity.limit + len(self.engine.cancelled)
        assert activity.waiting_tokens >= 0
        assert len(self.engine.held) <= RUNNING + 1

    def teardown(self) -> None:
        """Let the engine finish all that there is, and everybody see their end."""
        self.engine.refuses_next = False
        self.go_on(20)
        while self.engine.held:
            self.engine_finishes(0)
            self.go_on(20)
        assert all(task.done() for task in self.tasks)
        for task in self.tasks:
            assert task.cancelled() or isinstance(task.exception(), MooringError | None)
        assert self.service.activity == Activity(0, RUNNING + WAITING, 0)
        assert self.service.load == Load(0, 0, 0)
        self.loop.close()

    def begin(self, call: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(self.loop.create_task(call))


def prepared(prompts: Sequence[int], n: int) -> list[PreparedRequest]:
    sampling = SamplingParams(n=n, max_tokens=9, stop=("!",))
    return [PreparedRequest((97,) * length, sampling) for length in prompts]


Calls.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestCalls = Calls.TestCase
