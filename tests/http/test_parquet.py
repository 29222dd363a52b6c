"""Parquet at `/invocations`: what data frames write is answered, and nothing in it hurts."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mooring.settings import ServerLimits, ServerSettings
from tests.http.serving import PATIENCE, Running, running_server

KIND = {"content-type": "application/vnd.apache.parquet"}
LIMIT = 200_000


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    limits = ServerLimits(drain_seconds=PATIENCE, max_body_bytes=LIMIT)
    with running_server(settings=ServerSettings(port=0, server=limits)) as running:
        yield running


def post(server: Running, body: bytes) -> httpx.Response:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        return client.post("/invocations", content=body, headers=KIND)


def written(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def test_a_data_frame_is_answered_row_by_row(server: Running) -> None:
    frame = pd.DataFrame({"prompt": ["hé", "ho"]}, index=pd.Index(["a", "b"]))
    answer = post(server, frame.to_parquet())
    assert answer.json() == {"predictions": {"candidates": ["user:hé\n", "user:ho\n"]}}


def test_conversations_are_answered(server: Running) -> None:
    messages = [[{"role": "system", "content": "be"}, {"role": "user", "content": "a"}]]
    answer = post(server, written({"messages": messages}))
    assert answer.json()["predictions"]["candidates"] == ["system:be\nuser:a\n"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The body must be valid Parquet."),
        (b"PAR1" * 100, "The body must be valid Parquet."),
        (written({"prompt": ["a"] * 65}), "One call takes at most 64 prompts. Given: 65."),
        (written({"question": ["a"]}), "row 0: columns must be `prompt` or `messages`."),
        (written({"prompt": ["a", None]}), "row 1: exactly one of `prompt` and `messages`"),
        (written({"prompt": [b"a"]}), "row 0: `prompt` must be a string."),
        (
            written({"prompt": ["x" * 5_000_000] * 60}, compression="zstd"),
            f"The rows of a Parquet body must have at most {LIMIT} bytes as JSON.",
        ),
    ],
    ids=["empty", "broken", "rows", "column", "missing", "bytes", "bomb"],
)
def test_what_cannot_be_answered_is_refused(server: Running, body: bytes, said: str) -> None:
    answer = post(server, body)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert answer.json()["message"].startswith(said)


def test_every_cut_of_a_file_leaves_the_server_well(server: Running) -> None:
    whole = written({"prompt": ["ab"]})
    for length in range(0, len(whole), len(whole) // 5):
        assert post(server, whole[:length]).status_code == 400
    assert post(server, whole).status_code == 200
