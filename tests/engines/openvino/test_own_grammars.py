"""Why the engine refuses grammars: the library's own let through what a schema forbids.

When one of these fails, the library has been mended.
"""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import openvino
import openvino_genai
import pytest
from openvino import opset15 as ops
from openvino_tokenizers import _get_factory

from tests.engines.conftest import ConvertedOf
from tests.models import END, FIRST_BYTE

VOCABULARY = [b"<pad>", b"<s>", b"</s>", *(bytes([byte]) for byte in range(256))]


@pytest.fixture
def pipeline(converted_of: ConvertedOf, tmp_path: Path) -> Any:
    """Load the model with a vocabulary, which the library's grammars need."""
    folder = copytree(converted_of("llama").folder, tmp_path / "llama")
    openvino.save_model(detokenizer(), folder / "openvino_detokenizer.xml")
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.num_kv_blocks = 40
    return openvino_genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", {})


def detokenizer() -> Any:
    ends = np.cumsum([len(token) for token in VOCABULARY], dtype=np.int32)
    begins = np.concatenate([[0], ends[:-1]]).astype(np.int32)
    characters = np.frombuffer(b"".join(VOCABULARY), np.uint8)
    strings = [ops.constant(part).output(0) for part in (begins, ends, characters)]
    ids = ops.parameter([-1, -1], dtype=np.int64)
    inputs = [ops.convert(ids, "i32").output(0), *strings]
    decoded = _get_factory().create("VocabDecoder", inputs, {"skip_tokens": [0, 1, 2]})
    text = _get_factory().create("StringTensorPack", decoded.outputs()[2:5], {})
    model = openvino.Model([text.output(0)], [ids], "detokenizer")
    model.set_rt_info(END, "eos_token_id")
    return model


def begin(pipeline: Any, number: int, **structure: str) -> Any:
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = 100
    config.stop_token_ids = {END}
    config.do_sample, config.rng_seed = True, number
    config.structured_output_config = openvino_genai.StructuredOutputConfig(**structure)
    prompt = openvino.Tensor(np.array([[5, 6, 7]], dtype=np.int64))
    return pipeline.add_request(number, prompt, config)


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        ({"enum": [5, 7], "not": {"const": 5}}, [7]),
        ({"allOf": [{"enum": [5, 7]}, {"enum": [7, 8]}]}, [7]),
        ({"type": "integer", "minimum": 0, "maximum": 99, "multipleOf": 50}, [0, 50]),
    ],
    ids=["not", "allOf", "multipleOf"],
)
def test_what_a_schema_forbids_is_said(pipeline: Any, schema: Any, allowed: list[int]) -> None:
    whole = {
        "type": "object", "properties": {"a": schema}, "required": ["a"],
        "additionalProperties": False,
    }  # fmt: skip
    handles = [begin(pipeline, seed, json_schema=json.dumps(whole)) for seed in range(12)]
    while pipeline.has_non_finished_requests():
        pipeline.step()
    said = [answer.generated_ids for handle in handles for answer in handle.read_all()]
    texts = [bytes(id - FIRST_BYTE for id in ids if id >= FIRST_BYTE) for ids in said]
    whole_ones = [text for text, ids in zip(texts, said, strict=True) if ids[-1] == END]
    values = [json.loads(text)["a"] for text in whole_ones]
    assert [value for value in values if value not in allowed]


def test_a_grammar_that_fails_stops_all_others(pipeline: Any) -> None:
    handles = [begin(pipeline, 1, regex="[ab]{90}")]
    pipeline.step()
    handles.append(begin(pipeline, 2, regex="("))
    for _ in range(3):
        with pytest.raises(RuntimeError, match=r"parenthesis is not closed|scheduling phase"):
            pipeline.step()
