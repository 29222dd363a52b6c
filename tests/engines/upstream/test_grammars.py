"""Grammars are handed to the servers that keep to them, in their own words."""

from typing import Any

import pytest

from mooring.engines.upstream.dialect import Question
from mooring.engines.upstream.presets import DIALECTS
from mooring.errors import UnsupportedParameter
from mooring.generation import Grammar, GrammarKind, SamplingParams
from mooring.settings import UpstreamKind
from tests.engines.driving import ask
from tests.engines.upstream.test_engine import PROMPT, Start, start

__all__ = ["start"]

SOURCES: dict[GrammarKind, str] = {
    "json_object": "",
    "json_schema": '{"type": "null"}',
    "regex": "a+",
    "choice": '["a", "b"]',
    "lark": 'start: "a"',
}
WORDS: dict[UpstreamKind, dict[GrammarKind, dict[str, Any]]] = {
    "vllm": {
        "json_object": {"structured_outputs": {"json_object": True}},
        "json_schema": {"structured_outputs": {"json": {"type": "null"}}},
        "regex": {"structured_outputs": {"regex": "a+"}},
        "choice": {"structured_outputs": {"choice": ["a", "b"]}},
    },
    "sglang": {
        "json_object": {"json_schema": '{"type": "object"}'},
        "json_schema": {"json_schema": '{"type": "null"}'},
        "regex": {"regex": "a+"},
    },
    "llama.cpp": {
        "json_object": {"json_schema": {"type": "object"}},
        "json_schema": {"json_schema": {"type": "null"}},
    },
    "transformers": {},
    "openai": {},
}


def body(kind: UpstreamKind, grammar: Grammar | None) -> dict[str, Any]:
    question = Question((1,), "a", 5, SamplingParams(), (2,), "model", grammar=grammar)
    asked = DIALECTS[kind]().body(question)
    return dict(asked.get("sampling_params", asked))


@pytest.mark.parametrize("kind", WORDS)
def test_each_kind_is_said_in_the_servers_words(kind: UpstreamKind) -> None:
    assert set(DIALECTS[kind].grammars) == set(WORDS[kind])
    plain = body(kind, None)
    for name, words in WORDS[kind].items():
        assert body(kind, Grammar(name, SOURCES[name])) == plain | words
        assert not plain.keys() & words.keys()


@pytest.mark.parametrize(
    ("kind", "name"), [("openai", "json_object"), ("llama.cpp", "regex"), ("vllm", "lark")]
)
def test_what_a_server_cannot_keep_to_is_refused(
    start: Start, kind: UpstreamKind, name: GrammarKind
) -> None:
    engine = start(kind)
    with pytest.raises(UnsupportedParameter, match=f"upstream engine .* kind {name}"):
        ask(engine, PROMPT, grammar=Grammar(name, SOURCES[name]))
