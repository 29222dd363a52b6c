"""What an engine refuses before it begins."""

from dataclasses import replace
from typing import Any

import pytest

from mooring.engines.admission import check_request
from mooring.engines.contract import Capabilities
from mooring.errors import UnsupportedParameter
from mooring.generation import (
    GRAMMAR_KINDS,
    GenerationRequest,
    Grammar,
    GrammarKind,
    SamplingParams,
)

CAPABILITIES = Capabilities("plain", "1", "cpu", "float32", 16, 100, 4)


@pytest.mark.parametrize(
    ("name", "value"), [("logit_bias", ((5, 1.0),)), ("min_p", 0.1), ("seed", 0), ("top_k", 3)]
)
def test_refuses_by_name_what_it_cannot_honour(name: str, value: Any) -> None:
    sampling = replace(SamplingParams(max_tokens=4), **{name: value})
    request = GenerationRequest("any", (1, 2), sampling)
    assert check_request(request, CAPABILITIES) == 4
    with pytest.raises(UnsupportedParameter, match=f"`{name}`") as refusal:
        check_request(request, replace(CAPABILITIES, unsupported=(name,)))
    assert refusal.value.param == name


def test_accepts_what_asks_for_nothing() -> None:
    every = tuple(name for name in SamplingParams.__slots__ if name != "max_tokens")
    request = GenerationRequest("any", (1, 2), SamplingParams(max_tokens=4))
    assert check_request(request, replace(CAPABILITIES, unsupported=every)) == 4


@pytest.mark.parametrize("kind", GRAMMAR_KINDS)
def test_refuses_by_name_a_grammar_that_it_cannot_keep_to(kind: GrammarKind) -> None:
    grammar = Grammar(kind, "x", param="structured_outputs.x")
    request = GenerationRequest("any", (1, 2), SamplingParams(max_tokens=4), grammar=grammar)
    assert check_request(request, replace(CAPABILITIES, grammars=(kind,))) == 4
    with pytest.raises(UnsupportedParameter, match=f"kind {kind}.*`structured_outputs.x`") as no:
        check_request(request, CAPABILITIES)
    assert no.value.param == "structured_outputs.x"


def test_refuses_to_go_past_the_end_of_a_grammar() -> None:
    request = GenerationRequest(
        "any", (1, 2), SamplingParams(ignore_eos=True), grammar=Grammar("json_object")
    )
    with pytest.raises(UnsupportedParameter, match=r"`ignore_eos`.*`response_format`") as refusal:
        check_request(request, replace(CAPABILITIES, grammars=("json_object",)))
    assert refusal.value.param == "ignore_eos"
