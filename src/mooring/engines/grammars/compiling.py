"""From a grammar to what says which tokens may come next: the matchers of llguidance."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from mooring.generation import JSON_WHITESPACE, Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

Result = TypeVar("Result")

# The library walks rules and references by recursion: a long chain of them needs a deep stack.
_STACK_BYTES = 64 * 1024 * 1024
_starting = threading.Lock()

_LONGEST_REASON = 200


class GrammarError(Exception):
    """A grammar cannot be used; says why."""


def compile_grammar(grammar: Grammar, tokenizer: "LLTokenizer") -> "LLMatcher":
    """Return a matcher at its beginning; raise `GrammarError`. Needs a deep stack: see `deeply`."""
    from llguidance import LLMatcher, LLParserLimits

    # So that no step of a request stalls the others; the library's own are several times these.
    limits = LLParserLimits(
        initial_lexer_fuel=200_000,
        step_lexer_fuel=50_000,
        step_max_items=20_000,
        max_lexer_states=50_000,
        max_grammar_size=50_000,
        verbose_errors=False,
    )
    try:
        source = _source(grammar)
    except ValueError as error:
        raise GrammarError(_reason(str(error))) from None
    matcher = LLMatcher(tokenizer, source, log_level=0, limits=limits)
    require_sound(matcher)
    return matcher


def require_sound(matcher: "LLMatcher") -> None:
    """Raise `GrammarError` if the matcher has failed; it stays in that state."""
    if matcher.is_error():
        raise GrammarError(_reason(matcher.get_error()))


def deeply(action: Callable[[], Result]) -> "Future[Result]":
    """Begin `action` in a thread of its own whose stack is deep enough for any grammar."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            result = action()
        except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
            future.set_exception(error)
        else:
            future.set_result(result)

    thread = threading.Thread(target=run, name="grammar", daemon=True)
    with _starting:
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    return future


def _source(grammar: Grammar) -> str:
    """Return a grammar in the library's own form; raise `ValueError` for what is no JSON."""
    from llguidance import LLMatcher

    match grammar.kind:
        case "json_object":
            return _of_schema('{"type": "object"}')
        case "json_schema":
            return _of_schema(grammar.source)
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.source)
        case "lark":
            return LLMatcher.grammar_from_lark(grammar.source)
        case "choice":
            choices = " | ".join(json.dumps(choice) for choice in json.loads(grammar.source))
            return LLMatcher.grammar_from_lark(f"start: {choices}")


def _of_schema(schema: str) -> str:
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(
        schema, overrides={"whitespace_pattern": JSON_WHITESPACE}
    )


def _reason(error: str) -> str:
    """Return the library's reason in one line."""
    reason = " ".join(error.replace("<non-verbose/>", "").split())
    half = _LONGEST_REASON // 2
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:half]} ... {reason[-half:]}"
