"""Valid bodies of every route, and what hypothesis makes of them."""

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

SAMPLING: dict[str, Any] = {
    "max_tokens": 4, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "n": 2,
    "seed": 1, "stop": ["x"], "logit_bias": {"5": 1}, "presence_penalty": 0.5,
    "frequency_penalty": 0.5, "repetition_penalty": 1.1, "ignore_eos": False, "min_tokens": 1,
    "stop_token_ids": [7], "allowed_token_ids": [5, 97], "bad_words": ["no", "never"],
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
}  # fmt: skip

VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "echo",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": "ho"},
            {"role": "user", "content": "again"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 4,
        "response_format": {"type": "text"},
        "logprobs": False,
        "tools": [],
        "truncate_prompt_tokens": -1,
        "chat_template_kwargs": {"color": "blue"},
        **SAMPLING,
    },
    "/v1/completions": {
        "model": "echo",
        "prompt": ["one", "two"],
        "stream": False,
        "echo": False,
        "suffix": "",
        "user": "me",
        "truncate_prompt_tokens": 9,
        **SAMPLING,
    },
    "/v1/responses": {
        "model": "echo",
        "instructions": "be brief",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "max_output_tokens": 4,
        "temperature": 0.5,
        "stream": True,
        "text": {"format": {"type": "text"}},
        "metadata": {"a": "b"},
    },
    "/v1/decisions": {
        "model": "echo",
        "input": "fire",
        "questions": [
            {"type": "predicate", "name": "urgent", "instructions": "Is it?"},
            {"type": "choice", "instructions": "Who?", "choices": [{"value": "a"}, {"value": "b"}]},
            {"type": "score", "instructions": "How?", "levels": [{"label": "a"}, {"label": "b"}]},
        ],
    },
    "/tokenize": {
        "model": "echo",
        "messages": [{"role": "user", "content": "hi"}],
        "add_generation_prompt": True,
        "return_token_strs": True,
    },
    "/invocations": {
        "dataframe_split": {"columns": ["prompt", "messages"], "data": [["a", None], ["b", None]]},
        "params": SAMPLING,
    },
}

STRANGE: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 1, 2, 8, 9, 2**31, 2**63, 10**400]),
    st.floats(),
    st.sampled_from([1e-45, 1e308, -0.0, 1e999]),
    st.text(max_size=20),
    st.sampled_from(["", "\0", "\ud800", "<|im_end|>", "5", "x" * 5000, "\u202e", "{{ 7*7 }}"]),
    st.lists(st.one_of(st.integers(-5, 300), st.text(max_size=3), st.none()), max_size=5),
    st.dictionaries(st.text(max_size=8), st.integers(-5, 5), max_size=3),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value within `value`."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a route and a body: a valid one with up to four changes, or with its bytes changed."""
    path = draw(st.sampled_from(sorted(VALID)))
    body = json.loads(json.dumps(VALID[path]))
    for name in draw(st.lists(st.sampled_from(sorted(body)), max_size=6, unique=True)):
        del body[name]
    for _ in range(draw(st.integers(1, 4))):
        _change(draw, body)
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    return path, draw(st.one_of(st.just(content), _broken(content)))


def _change(draw: st.DrawFn, body: Any) -> None:
    known = places(body)
    if not known or draw(st.integers(0, 9)) == 0:
        body[draw(st.text(max_size=10))] = draw(STRANGE)
        return
    *path, last = draw(st.sampled_from(known))
    for step in path:
        body = body[step]
    action = draw(st.sampled_from(["replace", "remove", "wrap"]))
    if action == "remove":
        del body[last]
    else:
        body[last] = draw(STRANGE) if action == "replace" else [body[last]]


@st.composite
def _broken(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut bytes out, or put some in."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 20)))
    return content[:start] + draw(st.binary(max_size=10)) + content[end:]


HEADS = [
    b"POST /v1/completions HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n",
    b"POST /invocations HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n", b"OPTIONS * HTTP/1.1\r\n",
    b"GET /\xff HTTP/1.1\r\n", b"GET http://a/ HTTP/1.1\r\n", b"\x16\x03\x01\x00", b"\r\n\r\n",
]  # fmt: skip
HEADERS = [
    b"host: localhost\r\n", b"content-type: application/json\r\n", b"content-length: 2\r\n",
    b"content-length: -2\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n",
    b"expect: 100-continue\r\n", b"upgrade: websocket\r\n", b"connection: upgrade\r\n",
    b"x: \x00\r\n", b" folded\r\n", b"content-length: 99999999999999999999\r\n",
    b"authorization: Bearer \xff\r\n", b"x-request-id: a b\r\n", b"cookie: " + b"a" * 999 + b"\r\n",
]  # fmt: skip
BODIES = [
    b"{}", b"2\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"0\r\n\r\n",
    b'{"model":"echo","prompt":"a"}', b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
]  # fmt: skip

RAW: SearchStrategy[bytes] = st.builds(
    lambda head, headers, end, body, noise: head + b"".join(headers) + end + body + noise,
    st.sampled_from(HEADS) | st.binary(max_size=40),
    st.lists(st.sampled_from(HEADERS) | st.binary(max_size=20), max_size=6),
    st.sampled_from([b"\r\n", b"\n\n", b""]),
    st.sampled_from(BODIES) | st.binary(max_size=40),
    st.binary(max_size=8),
)
