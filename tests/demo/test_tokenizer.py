"""The demo tokenizer loses nothing and makes characters span tokens."""

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mooring.demo import dialogues, questions, snapshot_path


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(snapshot_path())


def test_its_special_tokens_and_settings(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.is_fast
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|pad|>", 0)
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") == 1
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert tokenizer.padding_side == "left"
    assert tokenizer.model_max_length == 1024
    assert tokenizer.clean_up_tokenization_spaces is False


def test_every_text_survives_a_round_trip(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = [text for pair in questions() for text in (pair.question, pair.answer)]
    texts += [turn.answer for dialogue in dialogues() for turn in dialogue.turns]
    texts += ["  two  spaces , and a comma !\n\tTab", "emoji 🚢 and Ünïcödé", "\x00\x7f"]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_vanish_when_asked(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer.encode("<|im_start|>Hello!<|im_end|><|pad|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Hello!"


def test_many_chinese_characters_span_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    answers = [question.answer for question in questions() if question.language == "zh"]
    token_ids = [token_id for answer in answers for token_id in tokenizer.encode(answer)]
    partial = [token_id for token_id in token_ids if "\ufffd" in tokenizer.decode([token_id])]
    assert len(partial) / len(token_ids) > 0.2
    split = [
        answer
        for answer in answers
        if any("\ufffd" in tokenizer.decode([token_id]) for token_id in tokenizer.encode(answer))
    ]
    assert len(split) / len(answers) > 0.9
