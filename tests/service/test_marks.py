from collections.abc import Sequence

from mooring.service.detokenize import IncrementalText
from mooring.service.marks import with_marks


class SpecialTokenizer:
    """One token per character; `[MARK]` and the id 0 are special tokens, which decoding drops."""

    MARK = 1_114_112

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        before, mark, after = text.partition("[MARK]")
        marks = [self.MARK] if mark else []
        return [*map(ord, before), *marks, *map(ord, after)]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(chr(id) for id in token_ids if 0 < id < self.MARK)

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode()


def test_marks_are_shown_and_other_special_tokens_are_not() -> None:
    tokenizer = with_marks(SpecialTokenizer(), ("[MARK]", "plain"))
    ids = [0, *map(ord, "a b"), SpecialTokenizer.MARK, SpecialTokenizer.MARK, ord("c"), 0]
    assert tokenizer.decode(ids) == "a b[MARK][MARK]c"
    text = IncrementalText(tokenizer)
    assert [text.push(id) for id in ids] == ["", "a", " ", "b", "[MARK]", "[MARK]", "c", ""]
    assert tokenizer.encode("x[MARK]", add_special_tokens=False) == [120, SpecialTokenizer.MARK]


def test_a_tokenizer_that_drops_none_of_them_stays_as_it_is() -> None:
    plain = SpecialTokenizer()
    assert with_marks(plain, ("<tool_call>",)) is plain
    assert with_marks(plain, ()) is plain
