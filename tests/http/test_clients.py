"""Clients that others wrote, against a real server: curl, MLflow's, litellm and langchain."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from tests.http.serving import Running, running_server
from tests.http.test_tools import ARGUMENTS, CALLS, TOOL, ask, saying

CONSTRAINTS = ("litellm==1.110.2", "langchain-openai==1.7.4")

SCRIPT = """
import json, sys
import litellm
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

url, text, tool = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
said = {}

def call(**more):
    messages = [{"role": "user", "content": text}]
    return litellm.completion(
        model="openai/demo", api_base=url, api_key="none", messages=messages, tools=[tool], **more
    )

message = call().choices[0].message
said["litellm"] = [message.tool_calls[0].function.name, message.tool_calls[0].function.arguments]
deltas = [chunk.choices[0].delta for chunk in call(stream=True)]
calls = [one for delta in deltas for one in delta.tool_calls or ()]
arguments = "".join(one.function.arguments or "" for one in calls)
said["litellm streamed"] = [calls[0].function.name, arguments]

model = ChatOpenAI(model="demo", base_url=url, api_key="none").bind_tools([tool])
answer = model.invoke([HumanMessage(text)])
said["langchain"] = [answer.tool_calls[0]["name"], json.dumps(answer.tool_calls[0]["args"])]
whole = None
for chunk in model.stream([HumanMessage(text)]):
    whole = chunk if whole is None else whole + chunk
said["langchain streamed"] = [whole.tool_calls[0]["name"], json.dumps(whole.tool_calls[0]["args"])]
model = ChatOpenAI(model="demo", base_url=url, api_key="none", use_responses_api=True)
call = model.bind_tools([tool]).invoke([HumanMessage(text)]).tool_calls[0]
said["langchain responses"] = [call["name"], json.dumps(call["args"])]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(prompt_format=saying("<tool_call>")) as running:
        yield running


def test_curl_reads_a_stream(server: Running) -> None:
    command = [
        "curl", "-sN", f"{server.url}/v1/chat/completions", "-H", "Content-Type: application/json",
        "-d", json.dumps(ask(CALLS["hermes"], stream=True)),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    events = [line.removeprefix("data: ") for line in shown.splitlines() if line]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert "".join(call["function"]["arguments"] for call in calls) == ARGUMENTS


def test_mlflows_client_scores(server: Running) -> None:
    url = httpx.URL(server.url)
    client = ScoringServerClient(url.host, url.port)
    client.ping()
    answer = client.invoke(pd.DataFrame({"prompt": ["one", "two"]}), params={"max_tokens": 2})
    assert answer.get_predictions().to_dict("list") == {"candidates": ["on", "tw"]}


@pytest.mark.slow
def test_litellm_and_langchain_call_tools(server: Running, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *CONSTRAINTS], check=True)
    arguments = [f"{server.url}/v1", CALLS["hermes"], json.dumps(TOOL)]
    done = subprocess.run(
        [python, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said) == 5
    for name, arguments_said in said.values():
        assert (name, json.loads(arguments_said)) == ("get_weather", json.loads(ARGUMENTS))
