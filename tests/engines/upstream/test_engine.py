"""The upstream engine in front of real processes: answers, faults, deaths, and what it leaves."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mooring.engines.contract import EngineObserver
from mooring.engines.upstream import UpstreamEngine
from mooring.engines.upstream.presets import DIALECTS
from mooring.engines.upstream.server import free_port
from mooring.errors import (
    EngineError,
    EngineStopped,
    InvalidInput,
    RequestFailed,
    ServerBusy,
    UnsupportedParameter,
)
from mooring.generation import Failed, Finished, Likelihood, LogprobsWanted
from mooring.settings import UpstreamKind, UpstreamSettings
from tests.engines.driving import Answer, ask, engine_threads
from tests.engines.process.children import Observed, wait_for
from tests.engines.upstream.servers import (
    STAND_IN,
    python,
    servers,
    stand_in_engine,
    upstream_engine,
)
from tests.engines.upstream.stand_in import FAULTS
from tests.models import END
from tests.processes import server as running

Start = Callable[..., UpstreamEngine]
PROMPT = [65, 66, 67]
ENDLESS: dict[str, Any] = {"max_tokens": 60, "ignore_eos": True}
CODES = {name: code for code, name in FAULTS.items()}


@pytest.fixture
def start() -> Iterator[Start]:
    """Start engines around the stand-in; afterwards none of their processes may be left."""
    engines: list[UpstreamEngine] = []

    def make(
        kind: UpstreamKind = "vllm", observer: EngineObserver | None = None, **values: Any
    ) -> UpstreamEngine:
        engines.append(stand_in_engine(kind, observer, **values))
        engines[-1].start()
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
    assert servers() == []
    assert engine_threads() == []


def at_token(count: int, act: Callable[[], None]) -> Callable[[Answer], None]:
    return lambda answer: act() if len(answer.tokens) == count else None


def kill(number: signal.Signals = signal.SIGKILL) -> None:
    (process,) = servers()
    process.send_signal(number)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_token_ids_come_back_without_the_end_token(start: Start, kind: UpstreamKind) -> None:
    engine = start(kind)
    cached = 1 if kind == "sglang" else 0
    whole, cut = ask(engine, PROMPT).wait(), ask(engine, PROMPT, max_tokens=2).wait()
    assert (whole.tokens, whole.end) == (PROMPT, Finished("stop", cached, END))
    assert (cut.tokens, cut.end) == (PROMPT[:2], Finished("length", cached))


def test_logprobs_are_those_of_the_server(start: Start) -> None:
    wanted = LogprobsWanted(answer=2)
    answer = ask(start("vllm"), PROMPT, max_tokens=2, logprobs=wanted).wait()
    assert answer.likelihoods == [
        Likelihood(-1.0, ((token, -1.0), (token + 1, -2.0))) for token in PROMPT[:2]
    ]
    bare = ask(start("vllm"), PROMPT, max_tokens=2, logprobs=LogprobsWanted(answer=0)).wait()
    assert bare.likelihoods == [Likelihood(-1.0)] * 2


@pytest.mark.parametrize("kind", ["llama.cpp", "transformers", "openai"])
def test_text_comes_with_the_servers_count(start: Start, kind: UpstreamKind) -> None:
    engine = start(kind)
    answer = ask(engine, PROMPT)
    assert (answer.wait().text, answer.end) == ("ABC", Finished("stop"))
    assert sum(getattr(event, "tokens", 0) for event in answer.events) == 3
    assert ask(engine, PROMPT, max_tokens=2).wait().text == "AB"


def test_a_server_of_text_gives_token_ids_at_once_where_they_are_needed(start: Start) -> None:
    engine = start("llama.cpp")
    whole = ask(engine, PROMPT, needs_ids=True).wait()
    cut = ask(engine, PROMPT, needs_ids=True, generated=[65], max_tokens=2).wait()
    assert (whole.tokens, whole.text, whole.end) == (
        PROMPT,
        "",
        Finished("stop", end_token=END),
    )
    assert (cut.tokens, cut.text, cut.end) == ([66], "", Finished("length"))


@pytest.mark.parametrize(
    ("kind", "context", "precision"), [("llama.cpp", 128, "int4"), ("vllm", 256, "upstream")]
)
def test_what_a_server_tells_of_its_model_counts(
    kind: UpstreamKind, context: int, precision: str
) -> None:
    engine = stand_in_engine(kind)
    told = engine.start()
    engine.close()
    assert (told.context_length, told.precision) == (context, precision)


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("all F32", "upstream"), ("BF16", "upstream"), ("Q8_0", "int8"), ("Q6_K", "int8"),
        ("Q5_K - Small", "int4"), ("IQ2_XXS - 2.0625 bpw", "int4"), ("MXFP4 MoE", "int4"),
    ],
)  # fmt: skip
def test_the_kind_of_a_gguf_file_says_its_precision(kind: str, precision: str) -> None:
    assert DIALECTS["llama.cpp"]().about({"meta": {"ftype": kind}}).precision == precision


@pytest.mark.parametrize("kind", ["transformers", "openai"])
def test_token_ids_that_no_text_gives_are_refused(start: Start, kind: UpstreamKind) -> None:
    end = ask(start(kind), [65, 255]).end
    assert isinstance(end, Failed)
    assert type(end.error) is RequestFailed
    assert "cannot be put into text" in end.error.message


def test_every_parameter_is_sent_under_the_servers_own_name(start: Start, tmp_path: Path) -> None:
    record = tmp_path / "record"
    engine = start("vllm", options=["--record", record])
    ask(
        engine, PROMPT, max_tokens=5, temperature=0.7, top_p=0.9, top_k=4, min_p=0.1,
        repetition_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.3, seed=-5,
        logit_bias={7: 1.5}, min_tokens=2, stop_token_ids=[9], allowed_token_ids=[5, 6, 7],
        bad_words=["no"],
    ).wait()  # fmt: skip
    path, key, body = json.loads(record.read_text())
    assert (path, key) == ("/v1/completions", None)
    assert body == {
        "model": "stand-in", "prompt": PROMPT, "max_tokens": 5, "temperature": 0.7, "top_p": 0.9,
        "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.2,
        "frequency_penalty": 0.3, "seed": -5, "logit_bias": {"7": 1.5}, "ignore_eos": False,
        "return_token_ids": True, "add_special_tokens": False, "stream": True,
        "stream_options": {"include_usage": True}, "logprobs": None,
        "return_tokens_as_token_ids": None, "min_tokens": 2, "stop_token_ids": [9],
        "allowed_token_ids": [5, 6, 7], "bad_words": ["no"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("sglang", "seed", 1),
        ("sglang", "bad_words", ["no"]),
        ("openai", "bad_words", ["no"]),
        ("llama.cpp", "presence_penalty", 1.0),
        ("llama.cpp", "ignore_eos", True),
        ("transformers", "seed", 1),
        ("transformers", "frequency_penalty", 1.0),
        ("openai", "top_k", 1),
    ],
)
def test_what_a_server_cannot_honour_is_refused(
    start: Start, kind: UpstreamKind, name: str, value: Any
) -> None:
    engine = start(kind)
    with pytest.raises(UnsupportedParameter, match=f"upstream engine cannot honour `{name}`"):
        ask(engine, PROMPT, **{name: value})


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status 500", RequestFailed),
        ("status 400", RequestFailed),
        ("status 503", ServerBusy),
        ("no JSON", RequestFailed),
        ("not an object", RequestFailed),
        ("error event", RequestFailed),
        ("endless line", RequestFailed),
        ("another reason", RequestFailed),
        ("no end", EngineStopped),
        ("cut", RequestFailed),
        ("no number", RequestFailed),
        ("uneven lists", RequestFailed),
    ],
)
def test_a_broken_answer_fails_alone(
    start: Start, caplog: pytest.LogCaptureFixture, fault: str, error: type[Exception]
) -> None:
    engine = start()
    broken = ask(engine, [CODES[fault], 65, 66, 67], **ENDLESS)
    other = ask(engine, PROMPT, **ENDLESS)
    assert isinstance(broken.end, Failed)
    assert type(broken.end.error) is error
    assert (other.end, other.tokens) == (Finished("length"), PROMPT * 20)
    assert "secret" not in broken.end.error.message + caplog.text
    assert ask(engine, PROMPT).wait().tokens == PROMPT


def test_nothing_is_taken_after_the_end_token(start: Start) -> None:
    answer = ask(start(), [CODES["goes on after the end"], 65, 66, 67, 68], max_tokens=5)
    assert (answer.wait().tokens, answer.end) == (
        [211, 65, 66],
        Finished("stop", end_token=END),
    )


def test_a_killed_server_is_replaced_and_greedy_answers_go_on(start: Start) -> None:
    observed = Observed()
    engine = start(observer=observed)
    (before,) = servers()
    answer = ask(engine, PROMPT, **ENDLESS, on_token=at_token(20, kill))
    assert (answer.end, answer.tokens) == (Finished("length"), PROMPT * 20)
    (after,) = servers()
    assert after.pid != before.pid
    assert observed.told == ["restarting", "restarted"]


def test_seeded_answers_are_repeated_and_others_fail(start: Start, tmp_path: Path) -> None:
    record = tmp_path / "record"
    engine = start(options=["--record", record])
    seeded = ask(engine, PROMPT, **ENDLESS, temperature=1.0, seed=7)
    unseeded = ask(engine, PROMPT, **ENDLESS, temperature=1.0, on_token=at_token(20, kill))
    assert isinstance(unseeded.end, Failed)
    assert "without a seed cannot be repeated" in unseeded.end.error.message
    assert (seeded.end, seeded.tokens) == (Finished("length"), PROMPT * 20)
    asked = [json.loads(line)[2] for line in record.read_text().splitlines()]
    assert [
        (body["seed"], body["prompt"], body["max_tokens"]) for body in asked if body["seed"]
    ] == [
        (7, PROMPT, 60),
        (7, PROMPT, 60),
    ]


def test_text_answers_do_not_go_on(start: Start) -> None:
    engine = start("llama.cpp")
    answer = ask(engine, range(65, 125))
    wait_for(lambda: len(answer.text) > 3)
    kill()
    assert isinstance(answer.end, Failed)
    assert type(answer.end.error) is EngineStopped


def test_a_stopped_server_is_found_out_and_replaced(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    engine = start(hang_seconds=1.0)
    answer = ask(engine, PROMPT, **ENDLESS, on_token=at_token(20, lambda: kill(signal.SIGSTOP)))
    assert (answer.end, answer.tokens) == (Finished("length"), PROMPT * 20)
    assert "The engine died: it said nothing for" in caplog.text


def test_what_kills_the_server_twice_fails_and_the_third_such_request_ends_the_engine(
    start: Start,
) -> None:
    observed = Observed()
    engine = start(observer=observed)
    for _ in range(2):
        killing = ask(engine, [CODES["exit"], 65, 66])
        assert isinstance(killing.end, Failed)
        assert type(killing.end.error) is RequestFailed
        assert killing.end.error.message.startswith("The engine died 2 times while it generated")
    assert ask(engine, PROMPT, max_tokens=9, ignore_eos=True).wait().tokens == PROMPT * 3
    killing = ask(engine, [CODES["exit"], 65, 66])
    assert isinstance(killing.end, Failed)
    assert killing.end.error.message == "The engine died 3 times in 60 s: it exited with 3."
    assert observed.told == ["restarting", "restarted"] * 4 + ["failed"]
    with pytest.raises(EngineStopped):
        ask(engine, PROMPT)


def test_a_server_that_dies_at_start_is_quoted() -> None:
    command = python("-c", "import sys; print('no such device'); sys.exit(4)", "{port}")
    engine = upstream_engine(UpstreamSettings("vllm", command))
    with pytest.raises(EngineError, match=r"(?s)did not start: it exited with 4\..*no such device"):
        engine.start()
    engine.close()


def test_a_server_that_is_never_ready_is_ended() -> None:
    command = python("-c", "import time; time.sleep(600)", "{port}", "never-ready")
    engine = upstream_engine(UpstreamSettings("vllm", command, start_seconds=0.3))
    with pytest.raises(EngineError, match=r"not ready within 0\.3 s"):
        engine.start()
    assert servers("never-ready") == []


def test_a_program_that_is_not_there_is_named() -> None:
    engine = upstream_engine(UpstreamSettings("vllm", "no-such-program --port {port}"))
    with pytest.raises(EngineError, match="no-such-program cannot be run: No such file"):
        engine.start()


def test_a_command_without_a_port_is_refused() -> None:
    engine = upstream_engine(UpstreamSettings("vllm", "vllm serve {snapshot}"))
    with pytest.raises(InvalidInput, match=r"must say \{port\}"):
        engine.start()


def test_close_ends_what_the_server_started() -> None:
    family = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(600)', 'grandchild']); "
        f"sys.argv = ['', sys.argv[1]]; exec(compile(open({str(STAND_IN)!r}).read(), '', 'exec'))"
    )
    engine = upstream_engine(UpstreamSettings("vllm", python("-c", family, "{port}")))
    engine.start()
    assert len(servers("grandchild")) == 1
    engine.close()
    wait_for(lambda: servers("grandchild") == [])


def test_the_server_ends_with_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from tests.engines.upstream.servers import stand_in_engine\n"
        "stand_in_engine('vllm').start()\n"
        "print('started', flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) == 2
    parent.kill()
    gone, alive = psutil.wait_procs(family, timeout=2)
    parent.communicate()
    assert (len(gone), alive) == (2, [])


def test_a_server_that_runs_is_only_asked(tmp_path: Path) -> None:
    port, record, observed = free_port(), tmp_path / "record", Observed()
    url = f"http://127.0.0.1:{port}"
    settings = UpstreamSettings("vllm", url=url, api_key="secret")
    engine = upstream_engine(settings, observed, hang_seconds=0.5)
    command = [sys.executable, "-S", STAND_IN, port, "--record", record]
    with running(command, f"{url}/health"):
        engine.start()
        assert ask(engine, PROMPT).wait().tokens == PROMPT
        assert json.loads(record.read_text())[1] == "Bearer secret"
        assert "secret" not in repr(settings)
    wait_for(lambda: observed.told == ["restarting"])
    end = ask(engine, PROMPT).end
    assert isinstance(end, Failed)
    assert type(end.error) is EngineStopped
    with running(command, f"{url}/health"):
        wait_for(lambda: observed.told == ["restarting", "restarted"])
        assert ask(engine, PROMPT).wait().tokens == PROMPT
        engine.close()
        assert len(servers()) == 1
