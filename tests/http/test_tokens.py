"""Text becomes tokens and comes back, as the model reads it."""

from typing import Any

import pytest

from mooring.engines.echo import EchoSettings
from tests.http.serving import Running, running_server

CHAT = [{"role": "user", "content": "hé"}]


def test_a_prompt_becomes_tokens_and_comes_back(echo: Running) -> None:
    answer = echo.post("/tokenize", {"prompt": "aé"}).json()
    assert answer == {
        "count": 4, "max_model_len": 4096, "tokens": [256, 97, 0xC3, 0xA9], "token_strs": None,
    }  # fmt: skip
    back = echo.post("/detokenize", {"model": "demo", "tokens": answer["tokens"][1:]})
    assert back.json() == {"prompt": "aé"}


def test_the_texts_of_tokens_and_no_special_ones(echo: Running) -> None:
    body = {"prompt": "aé", "add_special_tokens": False, "return_token_strs": True}
    answer = echo.post("/tokenize", body).json()
    assert (answer["count"], answer["token_strs"]) == (3, ["a", "\\xc3", "\\xa9"])


def test_an_empty_prompt_has_the_special_tokens_or_none(echo: Running) -> None:
    empty = echo.post("/tokenize", {"prompt": ""})
    assert (empty.status_code, empty.json()["tokens"]) == (200, [256])
    bare = {"prompt": "", "add_special_tokens": False, "return_token_strs": True}
    assert echo.post("/tokenize", bare).json() == {
        "count": 0, "max_model_len": 4096, "tokens": [], "token_strs": [],
    }  # fmt: skip
    assert echo.post("/detokenize", {"tokens": []}).json() == {"prompt": ""}


def test_messages_become_the_tokens_that_are_answered(echo: Running) -> None:
    answer = echo.post("/tokenize", {"model": "demo", "messages": CHAT}).json()
    assert answer["tokens"] == list("user:hé\n".encode())
    body = {"model": "demo", "messages": CHAT, "temperature": 0.5, "stream": True}
    rendered = echo.post("/v1/chat/completions/render", body).json()
    assert rendered == {
        "prompt": "user:hé\n", "count": 9, "max_model_len": 4096, "tokens": answer["tokens"],
    }  # fmt: skip
    asked = echo.post("/v1/chat/completions", {"model": "demo", "messages": CHAT}).json()
    assert asked["usage"]["prompt_tokens"] == 9


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {}, 400, None),
        ("/tokenize", {"prompt": "a", "messages": CHAT}, 400, None),
        ("/tokenize", {"prompt": "a", "model": "other"}, 404, "model"),
        ("/tokenize", {"prompt": "a", "text": "b"}, 400, "text"),
        ("/tokenize", {"messages": CHAT, "chat_template_kwargs": {"x": 1}}, 400, "chat_template"),
        ("/tokenize", {"prompt": ["a"]}, 400, "prompt"),
        ("/detokenize", {"tokens": [5, 100_000]}, 400, "tokens"),
        ("/detokenize", {"tokens": ["a"]}, 400, "tokens[0]"),
        ("/detokenize", {}, 400, "tokens"),
        ("/v1/chat/completions/render", {"messages": CHAT}, 400, "model"),
        ("/v1/chat/completions/render", {"model": "other", "messages": CHAT}, 404, "model"),
        ("/v1/chat/completions/render", {"model": "demo", "messages": CHAT, "n": 0}, 400, "n"),
    ],
)
def test_what_is_wrong_is_named(
    echo: Running, path: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    response = echo.post(path, body)
    assert response.status_code == status
    assert (response.json()["error"]["param"] or "").startswith(param or "")


def test_nothing_goes_to_the_engine() -> None:
    with running_server(EchoSettings(breaks_at_step=0)) as running:
        for path, body in (
            ("/tokenize", {"prompt": "a"}),
            ("/v1/chat/completions/render", {"model": "demo", "messages": CHAT}),
        ):
            assert running.post(path, body).status_code == 200
        assert running.service.load.steps == 0
