import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mooring.engines.echo import EchoSettings
from mooring.errors import (
    ContextExceeded,
    InvalidInput,
    InvalidParameter,
    InvalidPrompt,
    NotReady,
    RequestFailed,
    ServerBusy,
    UnsupportedParameter,
)
from mooring.generation import (
    Conversation,
    GenerationRequest,
    Grammar,
    Instruction,
    LogprobsWanted,
    Message,
    RawText,
    SamplingParams,
    TextRequest,
    TokenIds,
)
from mooring.service.admission import Activity
from mooring.service.stream import Completion, TextDelta, TextEnd
from mooring.service.text_service import TextService
from mooring.settings import ServiceLimits
from mooring.spec.prompt import PromptFormat
from tests.service.texts import echo_service

SLOW = EchoSettings(seconds_per_token=0.01)


def asked(text: str, **sampling: Any) -> TextRequest:
    return TextRequest(RawText(text), SamplingParams().update(sampling))


def likely(**wanted: int) -> TextRequest:
    return replace(asked("a"), logprobs=LogprobsWanted(**wanted))


async def answers(service: TextService, *requests: TextRequest) -> list[list[Completion]]:
    return await service.complete_all(await service.prepare_all(requests))


async def idle(service: TextService) -> None:
    async with asyncio.timeout(5):
        while service.activity.sequences:
            await asyncio.sleep(0.005)


def run(
    test: Callable[[TextService], Any], settings: EchoSettings | None = None, **more: Any
) -> Any:
    with echo_service(settings, **more) as service:
        return asyncio.run(test(service))


def test_an_answer_is_the_text_of_its_tokens() -> None:
    async def test(service: TextService) -> None:
        assert await answers(service, asked("héllo €😀")) == [[Completion("héllo €😀", "stop", 15)]]
        await idle(service)

    run(test)


def test_max_tokens_end_an_answer_with_length() -> None:
    async def test(service: TextService) -> None:
        assert await answers(service, asked("hello", max_tokens=4)) == [
            [Completion("hel", "length", 4)]
        ]

    run(test)


def test_a_stop_string_ends_the_answer_and_the_sequence() -> None:
    async def test(service: TextService) -> None:
        long = "one two three " + "x" * 3000
        found = await answers(service, asked(long, stop=[" th", "zz"]))
        assert found == [[Completion("one two", "stop", 11, stopped_by=" th")]]
        await idle(service)

    run(test, SLOW)


def test_many_answers_come_in_the_order_of_their_prompts() -> None:
    async def test(service: TextService) -> None:
        texts = [f"{number:02d}" * (1 + number % 5) for number in range(40)]
        found = await answers(service, *(asked(text, n=2) for text in texts))
        assert [[c.text for c in row] for row in found] == [[text, text] for text in texts]
        assert service.activity == Activity(0, 8 + 64)

    run(test, EchoSettings(max_running=8))


def test_a_large_call_takes_no_more_places_than_run_side_by_side() -> None:
    async def test(service: TextService) -> None:
        prepared = await service.prepare_all([asked("abcdef")] * 20)
        call = asyncio.create_task(service.complete_all(prepared))
        seen = set()
        while not call.done():
            seen.add(service.activity.sequences)
            await asyncio.sleep(0.002)
        assert max(seen) == 4
        assert len(await call) == 20

    run(test, EchoSettings(seconds_per_token=0.001, max_running=4))


def test_a_call_that_got_in_is_never_refused_half_way() -> None:
    async def test(service: TextService) -> None:
        prepared = await service.prepare_all([asked("abc")] * 12)
        calls = [service.complete_all(prepared) for _ in range(3)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        refused = [one for one in found if isinstance(one, ServerBusy)]
        assert len(refused) == 1
        assert [len(one) for one in found if isinstance(one, list)] == [12, 12]
        await idle(service)

    settings = EchoSettings(seconds_per_token=0.001, max_running=4)
    run(test, settings, limits=ServiceLimits(max_waiting=4))


def test_one_failing_row_fails_the_call_and_cancels_the_others() -> None:
    async def test(service: TextService) -> None:
        prepared = await service.prepare_all([asked("x" * 3000), asked("bad")])
        with pytest.raises(RequestFailed, match="Told to fail"):
            await service.complete_all(prepared)
        await idle(service)

    def fails(request: GenerationRequest) -> int | None:
        return 1 if len(request.prompt_ids) < 10 else None

    run(test, EchoSettings(seconds_per_token=0.005, fail_after=fails))


def test_a_call_cancelled_in_the_middle_frees_the_engine() -> None:
    async def test(service: TextService) -> None:
        prepared = await service.prepare_all([asked("x" * 3000)] * 3)
        call = asyncio.create_task(service.complete_all(prepared))
        await asyncio.sleep(0.05)
        assert service.activity.sequences == 3
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await idle(service)

    run(test, SLOW)


def test_a_stream_gives_pieces_then_one_end_per_completion() -> None:
    async def test(service: TextService) -> None:
        prepared = await service.prepare_all([asked("ab", n=2), asked("€")])
        stream = service.start_all(prepared)
        pieces = [piece async for piece in stream]
        for index, text, tokens in ((0, "ab", 3), (1, "ab", 3), (2, "€", 4)):
            own = [piece for piece in pieces if piece.index == index]
            assert "".join(p.text for p in own if isinstance(p, TextDelta)) == text
            assert [p for p in own if isinstance(p, TextEnd)] == [TextEnd(index, "stop", tokens)]
            assert isinstance(own[-1], TextEnd)
        assert stream.completion_tokens == 10

    run(test)


def test_closing_a_stream_early_cancels_it() -> None:
    async def test(service: TextService) -> None:
        stream = service.start(await service.prepare(asked("x" * 3000, n=3)))
        assert isinstance(await anext(stream), TextDelta)
        assert service.activity.sequences == 3
        await stream.aclose()
        await idle(service)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    run(test, SLOW)


def test_a_failure_is_raised_after_the_pieces_before_it() -> None:
    async def test(service: TextService) -> None:
        stream = service.start(await service.prepare(asked("abcdef")))
        assert [await anext(stream), await anext(stream)] == [TextDelta(0, "a"), TextDelta(0, "b")]
        with pytest.raises(RequestFailed, match="Told to fail after 3 tokens"):
            await anext(stream)
        await idle(service)

    run(test, EchoSettings(fail_after=lambda request: 3))


def test_a_full_service_refuses_and_recovers() -> None:
    async def test(service: TextService) -> None:
        prepared = await service.prepare(asked("x" * 3000, n=3))
        stream = service.start(prepared)
        with pytest.raises(ServerBusy, match=r"at most 5 sequences at once. Held: 3, asked for 3"):
            service.start(prepared)
        assert (service.activity.sequences, service.activity.limit) == (3, 5)
        await stream.aclose()
        await idle(service)
        await service.start(prepared).aclose()
        await idle(service)

    run(test, replace(SLOW, max_running=2), limits=ServiceLimits(max_waiting=3))


def test_an_engine_that_refuses_a_sequence_leaves_nothing_behind() -> None:
    async def test(service: TextService) -> None:
        prepared = await service.prepare(asked("abc", n=2))
        unfit = prepared.sampling.update({"logit_bias": {"200000": 1}})
        prepared = replace(prepared, sampling=unfit)
        with pytest.raises(InvalidParameter, match="logit_bias"):
            service.start(prepared)
        await idle(service)

    run(test)


def test_aborting_fails_what_runs_and_what_begins_later() -> None:
    async def test(service: TextService) -> None:
        stream = service.start(await service.prepare(asked("x" * 3000)))
        call = asyncio.create_task(answers(service, *[asked("x" * 3000)] * 40))
        await anext(stream)
        service.abort(NotReady("over"))
        with pytest.raises(NotReady, match="over"):
            async for _ in stream:
                pass
        with pytest.raises(NotReady, match="over"):
            await call
        with pytest.raises(NotReady, match="over"):
            service.start(await service.prepare(asked("a")))
        await idle(service)

    run(test, SLOW)


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        (Instruction("hi"), tuple(b"user:hi\n")),
        (
            Conversation((Message("system", "s"), Message("user", "u"))),
            tuple(b"system:s\nuser:u\n"),
        ),
        (RawText("hi"), (256, *b"hi")),
        (TokenIds((5, 6)), (5, 6)),
    ],
)
def test_prompts_become_token_ids(prompt: Any, ids: tuple[int, ...]) -> None:
    async def test(service: TextService) -> None:
        assert (await service.prepare(TextRequest(prompt))).prompt_ids == ids

    run(test)


def test_a_format_without_template_adds_the_begin_token() -> None:
    async def test(service: TextService) -> None:
        prepared = await service.prepare(TextRequest(Instruction("hi")))
        assert prepared.prompt_ids == (256, *b"hi")

    run(test, prompt_format=PromptFormat(kind="plain"))


def test_max_tokens_are_capped_by_the_context() -> None:
    async def test(service: TextService) -> None:
        assert (await service.prepare(asked("abc", max_tokens=9))).sampling.max_tokens == 6
        assert (await service.prepare(asked("abc"))).sampling.max_tokens == 6
        assert (await service.prepare(asked("abc", max_tokens=2))).sampling.max_tokens == 2

    run(test, EchoSettings(context_length=10))


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (RawText(""), InvalidPrompt, "must not be empty"),
        (Instruction(""), InvalidPrompt, "must not be empty"),
        (TokenIds(()), InvalidPrompt, "at least one token"),
        (TokenIds((300,)), InvalidPrompt, "< 300. Given: 300"),
        (TokenIds((-1,)), InvalidPrompt, "Given: -1"),
        (RawText("x" * 9), ContextExceeded, "fewer than 10 tokens.*Given: 10"),
    ],
)
def test_what_cannot_be_answered_is_refused(prompt: Any, error: type, message: str) -> None:
    async def test(service: TextService) -> None:
        with pytest.raises(error, match=message):
            await service.prepare(TextRequest(prompt))

    run(test, EchoSettings(context_length=10, vocabulary_size=300))


def test_a_grammar_that_the_engine_cannot_keep_to_is_refused_before_anything_else() -> None:
    async def test(service: TextService) -> None:
        request = TextRequest(RawText("x" * 5000), SamplingParams(), Grammar("json_object"))
        with pytest.raises(UnsupportedParameter, match=r"echo engine.*json_object") as refusal:
            await service.prepare(request)
        assert refusal.value.param == "response_format"

    run(test)


@pytest.mark.parametrize(
    ("engine", "asked_for", "param"),
    [
        ({"unsupported": ("seed",)}, asked("a", seed=1), "seed"),
        ({"unsupported": ("logit_bias",)}, asked("a", logit_bias={"1": 1}), "logit_bias"),
        ({}, asked("a", logit_bias={"100000": 1}), "logit_bias"),
        ({"top_logprobs": None}, likely(answer=0), "logprobs"),
        ({"top_logprobs": 0}, likely(answer=1), "logprobs"),
        ({"prompt_logprobs": False}, likely(prompt=0), "logprobs"),
    ],
)
def test_what_the_engine_can_never_do_is_refused_before_it_waits(
    engine: dict[str, Any], asked_for: TextRequest, param: str
) -> None:
    async def test(service: TextService) -> None:
        service.capabilities = replace(service.capabilities, **engine)
        with pytest.raises(InvalidInput) as refusal:
            await service.prepare(asked_for)
        assert refusal.value.param == param
        assert service.activity == Activity(0, 32 + 64)

    run(test)


def test_the_error_of_one_row_among_many_names_it() -> None:
    async def test(service: TextService) -> None:
        with pytest.raises(ContextExceeded, match=r"^row 2: The prompt must have fewer"):
            await service.prepare_all([asked("a"), asked("b"), asked("x" * 20)])
        with pytest.raises(ContextExceeded, match=r"^The prompt must have fewer"):
            await service.prepare_all([asked("x" * 20)])

    run(test, EchoSettings(context_length=10))


def test_a_call_has_a_limit_of_rows() -> None:
    async def test(service: TextService) -> None:
        with pytest.raises(InvalidInput, match=r"at most 3 prompts. Given: 4"):
            await service.prepare_all([asked("a")] * 4)
        assert await answers(service) == []

    run(test, limits=ServiceLimits(max_rows=3))


def test_sampling_is_the_defaults_with_the_callers_values() -> None:
    with echo_service(EchoSettings(context_length=50), temperature=0.1, max_tokens=1000) as service:
        assert service.sampling({}).temperature == 0.1
        assert service.sampling({"top_k": 4}).top_k == 4
        assert service.sampling({"max_tokens": 50}).max_tokens == 50
        with pytest.raises(InvalidParameter, match=r"`max_tokens` must be <= 50.*Given: 51"):
            service.sampling({"max_tokens": 51})
        with pytest.raises(InvalidParameter, match="temprature"):
            service.sampling({"temprature": 1})


def test_text_requests_are_rendered_as_the_model_sees_them() -> None:
    with echo_service() as service:
        assert service.render(Instruction("hi")) == "user:hi\n"
        assert service.render(RawText("hi")) == "hi"
        assert service.render(TokenIds((1,))) is None
