"""The door of `mooring serve --engine upstream`: a real `transformers serve` behind ours."""

import signal

import openai
import psutil
import pytest

from mooring.api.package import PackagedModel
from mooring.errors import UnsupportedParameter
from tests.conftest import Store
from tests.doors.answers import ANSWERS, FIRST
from tests.processes import BIN, free_port, server


def test_answers_through_another_server_and_leaves_none(demo: PackagedModel, store: Store) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        BIN / "mooring", "serve", "models:/demo@champion", "--port", port,
        "--engine", "upstream", "--upstream-preset", "transformers",
    ]  # fmt: skip
    with server(command, f"{address}/ready") as process:
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("transformers" in " ".join(member.cmdline()) for member in family)
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        question: list[openai.types.chat.ChatCompletionMessageParam] = [
            {"role": "user", "content": FIRST}
        ]
        answer = client.chat.completions.create(model="demo", messages=question, temperature=0)
        assert answer.choices[0].message.content == ANSWERS[FIRST]
        pieces = client.chat.completions.create(
            model="demo", messages=question, temperature=0, stream=True
        )
        deltas = [chunk.choices[0].delta.content or "" for chunk in pieces]
        assert "".join(deltas) == ANSWERS[FIRST]
        assert len([text for text in deltas if text]) > 3
        with pytest.raises(openai.BadRequestError, match="cannot honour `seed`") as refusal:
            client.chat.completions.create(model="demo", messages=question, seed=1)
        assert refusal.value.code == UnsupportedParameter.code
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        _, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []
