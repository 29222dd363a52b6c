"""The door of `mlflow.pyfunc.load_model`: every form of input, the same answers."""

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import mooring
from mooring.api.package import PackagedModel
from tests.conftest import Store
from tests.doors.answers import (
    ANSWERS,
    CANDIDATES,
    CONVERSATIONS,
    EXPECTED,
    FIRST,
    HISTORY,
    LAST_ANSWER,
    QUESTIONS,
)


@pytest.fixture(scope="module")
def model(demo: PackagedModel) -> Iterator[Any]:
    loaded = mlflow.pyfunc.load_model("models:/demo@champion")
    yield loaded
    loaded.unwrap_python_model()._model.close()


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"prompt": QUESTIONS}),
        pd.DataFrame({"prompt": QUESTIONS}, index=[7, 5, 3, 2, 1]),
        pd.DataFrame({"prompt": QUESTIONS}, index=list("abcde")),
        pd.DataFrame({"messages": CONVERSATIONS}),
        pd.DataFrame({"0": QUESTIONS}),
        {"prompt": QUESTIONS},
        {"prompt": np.array(QUESTIONS)},
        {"messages": CONVERSATIONS},
        QUESTIONS,
        tuple(QUESTIONS),
        np.array(QUESTIONS),
        pd.Series(QUESTIONS),
        [{"prompt": question} for question in QUESTIONS],
        [{"messages": messages} for messages in CONVERSATIONS],
        [{"prompt": QUESTIONS[0]}, *({"messages": m} for m in CONVERSATIONS[1:])],
    ],
    ids=[
        "frame", "frame-number-index", "frame-text-index", "frame-messages",
        "frame-number", "columns",
        "columns-array", "columns-messages", "strings", "tuple", "array", "series",
        "records", "records-messages", "records-mixed",
    ],
)  # fmt: skip
def test_every_row_is_answered_in_order(model: Any, rows: Any) -> None:
    assert model.predict(rows) == CANDIDATES


@pytest.mark.parametrize(
    "row",
    [FIRST, {"prompt": FIRST}, {"messages": CONVERSATIONS[0]}],
    ids=["string", "prompt", "messages"],
)
def test_one_row_gives_one_candidate(model: Any, row: Any) -> None:
    assert model.predict(row) == {"candidates": [ANSWERS[FIRST]]}


def test_history_is_part_of_the_question(model: Any) -> None:
    assert model.predict({"messages": HISTORY}) == {"candidates": [LAST_ANSWER]}


def test_the_tutorial_readers_call_works_unchanged(model: Any) -> None:
    answer = model.predict(pd.DataFrame({"prompt": [FIRST]}), params={"temperature": 0.6})
    assert list(answer) == ["candidates"]
    assert len(answer["candidates"]) == 1
    answer = model.predict(
        pd.DataFrame({"prompt": [FIRST]}), params={"temperature": 0.0, "max_tokens": 100}
    )
    assert answer == {"candidates": [ANSWERS[FIRST]]}


def test_parameters_are_honoured(model: Any) -> None:
    whole = ANSWERS[FIRST]
    short = model.predict(FIRST, params={"max_tokens": 3})["candidates"][0]
    assert whole.startswith(short)
    assert len(short) < len(whole)
    stopped = model.predict(FIRST, params={"stop": [whole[10:14]]})
    assert stopped == {"candidates": [whole[: whole.index(whole[10:14])]]}
    assert model.predict(FIRST, params={"n": 2}) == {"candidates": [whole, whole]}


def test_n_candidates_stay_with_their_row(model: Any) -> None:
    answer = model.predict(QUESTIONS[:2], params={"n": 2})
    assert answer == {"candidates": [EXPECTED[0], EXPECTED[0], EXPECTED[1], EXPECTED[1]]}


def test_seeded_sampling_repeats(model: Any) -> None:
    hot = {"temperature": 2.0, "seed": 7, "max_tokens": 30}
    first = model.predict(FIRST, params=hot)
    assert model.predict(FIRST, params=hot) == first
    assert model.predict(FIRST, params={**hot, "seed": 8}) != first


def test_streamed_pieces_join_to_the_answer(model: Any) -> None:
    for question, answer in ANSWERS.items():
        pieces = list(model.predict_stream({"prompt": question}))
        assert "".join(pieces) == answer
        assert len(pieces) > 3
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert "".join(model.predict_stream({"messages": HISTORY})) == LAST_ANSWER


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"prompt": None}, "row 0: exactly one of `prompt` and `messages` is needed. Given: none."),
        ({"prompt": FIRST, "messages": CONVERSATIONS[0]}, "Given: both."),
        ([FIRST, ""], "row 1: `prompt` must not be empty."),
        ([{"prompt": 5}], "row 0: `prompt` must be a string. Given: int."),
        (pd.DataFrame({"question": [FIRST]}), "columns must be `prompt` or `messages`"),
        (pd.DataFrame({"prompt": [FIRST, None]}), "row 1: exactly one of"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role` must be one of"),
        ("x " * 3000, "The prompt must have fewer than 1024 tokens, the model's context."),
        (5, "Input must be a string, a list, a mapping or a data frame"),
    ],
)
def test_bad_input_names_the_rule(model: Any, rows: Any, said: str) -> None:
    with pytest.raises(MlflowException) as caught:
        model.predict(rows)
    assert said in caught.value.message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert model.predict(FIRST) == {"candidates": [ANSWERS[FIRST]]}


def test_a_parameter_out_of_range_names_its_limit(model: Any) -> None:
    with pytest.raises(MlflowException, match=r"`temperature` must be >= 0 and <= 2. Given: 9.0."):
        model.predict(FIRST, params={"temperature": 9.0})
    with pytest.raises(MlflowException, match=r"`max_tokens` must be <= 1024, the model's context"):
        model.predict(FIRST, params={"max_tokens": 5000})


def test_an_empty_table_gives_no_candidates(model: Any) -> None:
    assert model.predict(pd.DataFrame({"prompt": []})) == {"candidates": []}


def test_mlflow_models_predict(demo: PackagedModel, tmp_path: Path) -> None:
    output = tmp_path / "answer.json"
    script = """
import json, sys, mlflow
mlflow.models.predict(
    model_uri=sys.argv[1],
    input_data={"prompt": json.loads(sys.argv[2])},
    env_manager="local",
    output_path=sys.argv[3],
)
"""
    arguments = [demo.uri, json.dumps(QUESTIONS), str(output)]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, timeout=120)
    assert json.loads(output.read_text()) == CANDIDATES


def test_log_model_inside_the_readers_run(store: Store) -> None:
    mlflow.set_experiment(store.experiment)
    with mlflow.start_run() as run:
        mlflow.log_param("reader", "yes")
        model_info = mooring.log_model(mooring.ModelSpec(source="demo"), "demo-in-run")
    assert model_info.run_id == run.info.run_id
    loaded = mlflow.pyfunc.load_model(model_info.model_uri)
    try:
        assert loaded.predict(pd.DataFrame({"prompt": QUESTIONS})) == CANDIDATES
    finally:
        loaded.unwrap_python_model()._model.close()
    outputs = mlflow.get_run(run.info.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model_info.model_id]
    by_run = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/demo-in-run")
    try:
        assert by_run.predict(FIRST) == {"candidates": [ANSWERS[FIRST]]}
    finally:
        by_run.unwrap_python_model()._model.close()


def test_a_model_that_nobody_holds_is_freed(demo: PackagedModel) -> None:
    """MLflow itself keeps the model it loaded last; those before it must go."""

    def engines() -> int:
        return sum(thread.name == "engine" for thread in threading.enumerate())

    before = engines()
    for _ in range(3):
        assert mlflow.pyfunc.load_model(demo.uri).predict(FIRST) == {"candidates": [ANSWERS[FIRST]]}
        gc.collect()
    deadline = time.monotonic() + 10
    while engines() > before + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert engines() <= before + 1
    mlflow.models.model.__mlflow_model__._model.close()
