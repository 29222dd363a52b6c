"""Thoughts are told from answers, however the text is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.protocol.thoughts import Thought, ThoughtReader
from mooring.protocol.tool_calls.pieces import SaidText

CASES = [
    (False, "<think>\nIt is 4.\n</think>\n\nFour.", "It is 4.", "Four."),
    (False, "  <think>a</think>b", "a", "b"),
    (True, "\nIt is 4.\n\nOr 5.\n</think>\n\nFour.", "It is 4.\n\nOr 5.", "Four."),
    (True, "never said", "never said", ""),
    (True, "a <think> b </think> c </think> d", "a <think> b", "c </think> d"),
    (True, "a </thin", "a </thin", ""),
    (False, "Four. <think>late</think>", "", "Four. <think>late</think>"),
    (False, "  four ", "", "  four "),
    (False, "<thi", "", "<thi"),
    (False, "<think></think>", "", ""),
    (False, "<think> \n </think>\n said ", "", "said "),
    (False, "", "", ""),
]


def read(pieces: list[str], *, thinking: bool) -> tuple[str, str]:
    reader = ThoughtReader(thinking=thinking)
    found = [piece for text in pieces for piece in reader.push(text)] + reader.finish()
    kinds = [type(piece) for piece in found]
    assert kinds == sorted(kinds, key=[Thought, SaidText].index)
    assert all(piece.text for piece in found)
    return (
        "".join(piece.text for piece in found if isinstance(piece, Thought)),
        "".join(piece.text for piece in found if isinstance(piece, SaidText)),
    )


@pytest.mark.parametrize(("thinking", "text", "thought", "said"), CASES)
def test_whole_and_letter_by_letter(thinking: bool, text: str, thought: str, said: str) -> None:
    assert read([text], thinking=thinking) == (thought, said)
    assert read(list(text), thinking=thinking) == (thought, said)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "</thi", "a", "\n", " b "]), max_size=9),
    st.lists(st.integers(0, 40)),
    st.booleans(),
)
def test_cut_anywhere(parts: list[str], cuts: list[int], thinking: bool) -> None:
    text = "".join(parts)
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    assert read(pieces, thinking=thinking) == read([text], thinking=thinking)


def test_a_thought_comes_as_it_is_written() -> None:
    reader = ThoughtReader(thinking=False)
    assert reader.push("<think>One") == [Thought("One")]
    assert reader.push(" two ") == [Thought(" two")]
    assert reader.push("three</th") == [Thought(" three")]
    assert reader.push("ink>Said") == [SaidText("Said")]
