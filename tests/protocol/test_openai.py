import json
from typing import Any

import pytest

from mooring.errors import (
    InvalidInput,
    InvalidJson,
    InvalidParameter,
    InvalidPrompt,
    UnsupportedParameter,
)
from mooring.generation import (
    SAMPLING_FIELDS,
    Conversation,
    LogprobsWanted,
    Message,
    RawText,
    SamplingParams,
    TextRequest,
    TokenIds,
)
from mooring.protocol.openai.chat import ChatBody, parse_chat
from mooring.protocol.openai.completions import CompletionBody, parse_completion
from mooring.protocol.openai.fields import OpenAICall

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> OpenAICall:
    return parse_chat(json.dumps({"model": "demo", "messages": [USER], **fields}).encode())


def completion(**fields: Any) -> OpenAICall:
    return parse_completion(json.dumps({"model": "demo", "prompt": "hi", **fields}).encode())


def test_a_chat_is_one_conversation() -> None:
    call = chat()
    assert call.prompts == (Conversation((Message("user", "hi"),)),)
    assert (call.model, call.stream, call.include_usage, call.parameters) == (
        "demo", False, False, {},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("hi", (RawText("hi"),)),
        (["a", "b"], (RawText("a"), RawText("b"))),
        ([1, 2], (TokenIds((1, 2)),)),
        ([[1], [2, 3]], (TokenIds((1,)), TokenIds((2, 3)))),
    ],
)
def test_completion_prompts_are_taken_as_they_are(prompt: Any, prompts: Any) -> None:
    assert completion(prompt=prompt).prompts == prompts


@pytest.mark.parametrize("prompt", [[], None, 5, [[]], [1, "a"], [True], [1.5], {}, [[1], "a"]])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidPrompt, match="`prompt` must be a string, a list") as error:
        completion(prompt=prompt)
    assert error.value.param == "prompt"


def test_sampling_parameters_are_those_the_client_set() -> None:
    given = {field.name: 1 for field in SAMPLING_FIELDS}
    assert chat(**given).parameters == given
    assert completion(**given).parameters == given
    assert chat(temperature=None, seed=3).parameters == {"seed": 3}


def test_every_sampling_field_can_be_sent() -> None:
    names = {field.name for field in SAMPLING_FIELDS}
    assert names <= set(ChatBody.model_fields)
    assert names <= set(CompletionBody.model_fields)


def test_max_completion_tokens_are_max_tokens() -> None:
    assert chat(max_completion_tokens=7).parameters == {"max_tokens": 7}
    assert chat(max_completion_tokens=7, max_tokens=7).parameters == {"max_tokens": 7}
    with pytest.raises(InvalidParameter, match="mean the same and must not differ"):
        chat(max_completion_tokens=7, max_tokens=8)


def test_stream_options_go_with_streams_only() -> None:
    assert chat(stream=True, stream_options={"include_usage": True}).include_usage
    assert not chat(stream=True, stream_options={"include_obfuscation": False}).include_usage
    with pytest.raises(InvalidParameter, match="only be given with `stream` = true"):
        chat(stream_options={"include_usage": True})
    with pytest.raises(UnsupportedParameter) as error:
        chat(stream=True, stream_options={"include_obfuscation": True})
    assert error.value.param == "stream_options.include_obfuscation"


HARMLESS: dict[str, Any] = {
    "user": "eve",
    "metadata": {"a": "b"},
    "safety_identifier": "x",
    "prompt_cache_key": "x",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"ttl": "30m"},
    "parallel_tool_calls": True,
    "store": False,
    "service_tier": "auto",
    "logprobs": False,
    "top_logprobs": 0,
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "function_call": "none",
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "reasoning_effort": "none",
    "verbosity": "medium",
    "audio": None,
    "prediction": None,
    "web_search_options": None,
    "moderation": None,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_chat_fields_are_accepted(name: str) -> None:
    assert chat(**{name: HARMLESS[name]}) == chat()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tool_choice", {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
        ("tool_choice", {"type": "custom", "custom": {"name": "f"}}),
        ("functions", [{}]),
        ("function_call", "auto"),
        ("audio", {"voice": "x"}),
        ("modalities", ["text", "audio"]),
        ("prediction", {"type": "content"}),
        ("web_search_options", {}),
        ("reasoning_effort", "low"),
        ("verbosity", "high"),
        ("service_tier", "flex"),
        ("store", True),
        ("moderation", {}),
    ],
)
def test_what_is_not_offered_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter, match=f"^`{name}`.* is not supported") as error:
        chat(**{name: value})
    assert error.value.param == name


@pytest.mark.parametrize(
    ("name", "value"),
    [("suffix", "x"), ("length_penalty", 2), ("use_beam_search", True)],
)
def test_what_completions_do_not_offer_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter, match=f"^`{name}`.* is not supported") as error:
        completion(**{name: value})
    assert error.value.param == name


def test_values_that_mean_off_are_fine_for_completions() -> None:
    off = {"echo": False, "logprobs": None, "suffix": "", "best_of": 1, "user": "eve"}
    assert completion(**off) == completion()
    assert completion(n=3, best_of=3).parameters == {"n": 3}


def test_the_best_of_many_is_asked_for() -> None:
    call = completion(best_of=4, n=2)
    assert (call.best_of, call.parameters) == (4, {"n": 2})
    (request,) = call.requests(SamplingParams(n=2))
    assert (request.sampling.n, request.logprobs) == (4, LogprobsWanted(answer=0))
    assert completion(best_of=2, n=2, stream=True).best_of is None
    for wrong in ({"best_of": 1, "n": 2}, {"best_of": 9}, {"best_of": True}, {"best_of": "2"}):
        with pytest.raises(InvalidParameter, match=r"^`best_of` must be a whole number") as error:
            completion(**wrong)
        assert error.value.param == "best_of"
    with pytest.raises(InvalidParameter, match=r"^`best_of` above `n` does not go with `stream`"):
        completion(best_of=2, stream=True)


def test_chats_say_how_many_of_the_most_likely_tokens_they_want() -> None:
    assert chat(logprobs=True).logprobs == LogprobsWanted(answer=0)
    assert chat(logprobs=True, top_logprobs=20).logprobs == LogprobsWanted(answer=20)
    assert chat(logprobs=False).logprobs == chat().logprobs == LogprobsWanted()
    for value in (-1, 21, 1.5, True, "1"):
        with pytest.raises(InvalidParameter, match=r"^`top_logprobs` must be a whole number") as e:
            chat(logprobs=True, top_logprobs=value)
        assert e.value.param == "top_logprobs"
    with pytest.raises(InvalidParameter, match="only be given with `logprobs` = true") as error:
        chat(top_logprobs=1)
    assert error.value.param == "top_logprobs"


def test_completions_say_what_they_repeat_and_how_likely_it_is() -> None:
    sampling = SamplingParams()
    (plain,) = completion(logprobs=5).requests(sampling)
    assert plain == TextRequest(RawText("hi"), sampling, logprobs=LogprobsWanted(answer=5))
    (echo,) = completion(logprobs=1, echo=True, max_tokens=3).requests(sampling)
    assert (echo.logprobs, echo.echo) == (LogprobsWanted(answer=1, prompt=1), True)
    call = completion(echo=True, max_tokens=0)
    assert call.parameters == {}
    assert call.requests(sampling) == [
        TextRequest(RawText("hi"), SamplingParams(max_tokens=0), echo=True)
    ]
    for value in (-1, 21, True, "5"):
        with pytest.raises(InvalidParameter, match=r"^`logprobs` must be a whole number") as error:
            completion(logprobs=value)
        assert error.value.param == "logprobs"


@pytest.mark.parametrize("name", ["guided_json", "thinking_token_budget", "temp"])
def test_unknown_fields_are_refused_by_name(name: str) -> None:
    for ask in (chat, completion):
        with pytest.raises(InvalidParameter, match=f"Unknown field `{name}`"):
            ask(**{name: {}})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"x": 1}, "stream": True}, "stream_options.x"),
        ({"user": 5}, "user"),
        ({"messages": "hi"}, "messages"),
        ({"messages": None}, "messages"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
def test_wrong_types_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as error:
        chat(**fields)
    assert error.value.param == param


@pytest.mark.parametrize("body", [b'{"messages":[]}', b'{"prompt":"a"}'])
def test_the_model_is_required(body: bytes) -> None:
    parse = parse_chat if b"messages" in body else parse_completion
    with pytest.raises(InvalidParameter, match=r"^`model` is required"):
        parse(body)


def test_what_is_not_json_is_refused() -> None:
    for parse in (parse_chat, parse_completion):
        with pytest.raises(InvalidJson):
            parse(b'{"model": ')


def test_the_answers_of_clients_are_taken_back() -> None:
    answer = {"role": "assistant", "content": "a", "refusal": None, "tool_calls": None}
    call = chat(messages=[USER, answer, USER])
    assert isinstance(call.prompts[0], Conversation)
    assert [m.role for m in call.prompts[0].messages] == ["user", "assistant", "user"]
