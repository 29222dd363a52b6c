"""Answers keep to their grammars, however the model runs; those beside them do not notice."""

import json
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import validate
from tokenizers import decoders, pre_tokenizers

from mooring.engines.contract import Engine
from mooring.engines.grammars import compiling
from mooring.engines.transformers import constraint
from mooring.errors import RequestFailed
from mooring.generation import Failed, Finished, FinishReason, Grammar
from tests.engines.conftest import EngineOf
from tests.engines.driving import Answer, ask
from tests.models import FIRST_BYTE, VOCABULARY_SIZE

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "kind": {"enum": ["boat", "pier"]},
        "sizes": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "kind", "sizes"],
    "additionalProperties": False,
}
BY_SCHEMA = Grammar("json_schema", json.dumps(SCHEMA))
EVERY_WAY = pytest.mark.parametrize("family", ["llama", "mpt", "mamba", "remote_code"])


def text_of(answer: Answer) -> str:
    return str(decoders.ByteLevel().decode([ALPHABET[id - FIRST_BYTE] for id in answer.tokens]))


def reason(answer: Answer) -> FinishReason:
    end = answer.end
    assert isinstance(end, Finished), end
    return end.reason


def asked(engine: Engine, grammar: Grammar, prompt: list[int] | None = None, **more: Any) -> Answer:
    return ask(engine, prompt or [5, 6, 7], grammar=grammar, **({"max_tokens": 200} | more)).wait()


@pytest.fixture
def engine(transformers_engine: EngineOf) -> Engine:
    return transformers_engine()


@EVERY_WAY
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "seed": 4}])
def test_random_weights_give_what_the_schema_says(
    transformers_engine: EngineOf, family: str, sampling: dict[str, Any]
) -> None:
    answer = asked(transformers_engine(family), BY_SCHEMA, **sampling)
    assert reason(answer) == "stop"
    validate(json.loads(text_of(answer)), SCHEMA)


@pytest.mark.parametrize(
    ("grammar", "texts"),
    [
        (Grammar("choice", '["left", "right"]'), {"left", "right"}),
        (Grammar("regex", "[ab]{3}"), {x + y + z for x in "ab" for y in "ab" for z in "ab"}),
        (Grammar("lark", 'start: "x" ("y" | "z")'), {"xy", "xz"}),
    ],
)
def test_other_kinds_are_kept_to_as_well(engine: Engine, grammar: Grammar, texts: set[str]) -> None:
    for seed in range(4):
        answer = asked(engine, grammar, temperature=2.0, seed=seed)
        assert reason(answer) == "stop"
        assert text_of(answer) in texts


def test_any_object_is_an_object(engine: Engine) -> None:
    answer = asked(engine, Grammar("json_object"), temperature=1.0, seed=3)
    text = text_of(answer)
    assert text.startswith("{")
    if reason(answer) == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert reason(answer) == "length"


def test_an_answer_complete_at_its_last_token_has_stopped(engine: Engine) -> None:
    assert reason(asked(engine, Grammar("choice", '["abc"]'), max_tokens=3)) == "stop"
    cut = asked(engine, Grammar("choice", '["abc"]'), max_tokens=2)
    assert (text_of(cut), reason(cut)) == ("ab", "length")


def test_where_more_may_come_the_model_decides_about_the_end(engine: Engine) -> None:
    grammar = Grammar("regex", "a*")
    ended = asked(engine, grammar, logit_bias={2: 100.0})
    assert (ended.tokens, reason(ended)) == ([], "stop")
    on = asked(engine, grammar, logit_bias={2: -100.0}, max_tokens=5)
    assert (text_of(on), reason(on)) == ("aaaaa", "length")


def test_bias_and_penalties_choose_among_what_is_allowed(engine: Engine) -> None:
    grammar = Grammar("regex", "[ab]{8}")
    a, b = (FIRST_BYTE + ALPHABET.index(letter) for letter in "ab")
    only_a = asked(engine, grammar, logit_bias={a: 100.0})
    assert text_of(only_a) == "aaaaaaaa"
    turns = asked(engine, grammar, logit_bias={a: 1.0, b: 1.0}, frequency_penalty=2.0).tokens
    assert set(turns) == {a, b}


def test_seeds_are_kept_and_do_not_depend_on_neighbours(engine: Engine) -> None:
    alone = asked(engine, BY_SCHEMA, temperature=1.2, seed=9).tokens
    free = ask(engine, [9, 10], max_tokens=60, ignore_eos=True).wait().tokens
    beside = [
        ask(engine, [9, 10], max_tokens=60, ignore_eos=True),
        ask(engine, [5, 6, 7], grammar=BY_SCHEMA, temperature=1.2, seed=9, max_tokens=200),
        ask(engine, [8], grammar=Grammar("regex", "[ab]{50}"), max_tokens=200),
    ]
    assert [answer.wait().tokens for answer in beside[:2]] == [free, alone]


@pytest.mark.parametrize("prompt_lookup", [False, True])
def test_drafts_are_checked_against_the_grammar(
    transformers_engine: EngineOf, prompt_lookup: bool
) -> None:
    """A text that repeats itself invites drafts; the end of the grammar is never one."""
    engine = transformers_engine(prompt_lookup=prompt_lookup)
    grammar = Grammar("regex", "(abc){30}(abd){5}")
    prompt = [FIRST_BYTE + ALPHABET.index(letter) for letter in "abcabcabcabcabdabd"]
    answer = asked(engine, grammar, prompt)
    assert (text_of(answer), reason(answer)) == ("abc" * 30 + "abd" * 5, "stop")


@EVERY_WAY
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 5}])
def test_an_answer_begun_before_goes_on_at_its_place(
    transformers_engine: EngineOf, family: str, sampling: dict[str, Any]
) -> None:
    engine = transformers_engine(family)
    whole = asked(engine, BY_SCHEMA, **sampling).tokens
    for done in (1, 9, len(whole) - 1):
        rest = asked(engine, BY_SCHEMA, generated=whole[:done], **sampling)
        assert (rest.tokens, reason(rest)) == (whole[done:], "stop")
    only_the_end = asked(engine, BY_SCHEMA, generated=whole, **sampling)
    assert (only_the_end.tokens, reason(only_the_end)) == ([], "stop")


def test_others_go_on_while_a_grammar_is_compiled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, leave = threading.Event(), threading.Event()
    compile_grammar = compiling.compile_grammar

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert leave.wait(30)
        return compile_grammar(*arguments)

    monkeypatch.setattr(constraint, "compile_grammar", slow)
    waiting = ask(engine, [5], grammar=Grammar("choice", '["compiled"]'), max_tokens=20)
    assert begun.wait(30)
    assert ask(engine, [6], max_tokens=30, ignore_eos=True).end == Finished("length")
    assert waiting.events == []
    leave.set()
    assert waiting.end == Finished("stop")
    assert text_of(waiting) == "compiled"


@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        (Grammar("regex", "("), "regex parse error"),
        (Grammar("regex", "a{1000000}"), "too many expressions"),
    ],
)
def test_a_grammar_that_fails_fails_alone(engine: Engine, grammar: Grammar, why: str) -> None:
    free = ask(engine, [9, 10], max_tokens=40, ignore_eos=True).wait().tokens
    beside = ask(engine, [9, 10], max_tokens=40, ignore_eos=True)
    end = asked(engine, grammar).end
    assert isinstance(end, Failed)
    assert isinstance(end.error, RequestFailed)
    assert why in end.error.message
    assert beside.wait().tokens == free


def bounded_schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of which every instance is short."""
    words = st.text('abc xé"\\', min_size=1, max_size=5)
    leaves = st.one_of(
        st.just({"type": "null"}),
        st.just({"type": "boolean"}),
        st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 5)),
        st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
                  st.integers(-50, 50), st.integers(0, 90)),
        st.builds(lambda values: {"enum": values}, st.lists(words, min_size=1, max_size=3)),
    )  # fmt: skip

    def wider(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        return st.one_of(
            st.builds(lambda item, most: {"type": "array", "items": item, "maxItems": most},
                      inner, st.integers(0, 2)),
            st.builds(lambda some: {"type": "object", "properties": some, "required": list(some),
                                    "additionalProperties": False},
                      st.dictionaries(words, inner, max_size=2)),
            st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=2)),
        )  # fmt: skip

    return st.recursive(leaves, wider, max_leaves=3)


def test_whatever_a_bounded_schema_says_is_what_comes(transformers_engine: EngineOf) -> None:
    engine = transformers_engine()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bounded_schemas(), st.integers(0, 2**32))
    def every_schema(schema: dict[str, Any], seed: int) -> None:
        grammar = Grammar("json_schema", json.dumps(schema))
        answer = asked(engine, grammar, temperature=1.5, seed=seed, max_tokens=250)
        assert reason(answer) == "stop"
        validate(json.loads(text_of(answer)), schema)

    every_schema()


def test_tokens_that_no_tokenizer_knows_are_never_chosen(engine: Engine) -> None:
    assert FIRST_BYTE + len(ALPHABET) == VOCABULARY_SIZE
    answer = asked(engine, Grammar("regex", ".{20}"), temperature=2.0, seed=1, top_p=1.0)
    assert len(text_of(answer)) == 20
