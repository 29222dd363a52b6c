"""What goes through the pipe comes out the same."""

import pytest

from mooring.engines.contract import CacheUse, Capabilities, Load
from mooring.engines.description import EngineDescription
from mooring.engines.process.messages import (
    COMMANDS,
    REPORTS,
    Cancel,
    Close,
    Command,
    Events,
    Frames,
    Heartbeat,
    Logged,
    Open,
    Opened,
    Refused,
    Report,
    Submit,
    error_of,
    frame,
    pack,
    trouble_of,
    unpack,
)
from mooring.errors import (
    EngineStopped,
    InvalidParameter,
    MooringError,
    NotEnoughMemory,
    RequestFailed,
    make_error,
)
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Grammar,
    Likelihood,
    LogprobsWanted,
    PromptRead,
    SamplingParams,
    Started,
    Token,
)
from mooring.settings import EngineSettings

SAMPLING = SamplingParams(
    max_tokens=9, temperature=0.3, seed=-(2**63), stop=("a", "é"), logit_bias=((3, -1.5), (4, 2.0))
)
GRAMMAR = Grammar("json_schema", '{"type": "null"}', param="response_format.json_schema.schema")
REQUEST = GenerationRequest(
    "sequence-1", (5, 6, 2**31), SAMPLING, (7, 8), "a key", GRAMMAR, LogprobsWanted(5, 0, 2)
)
LIKELY = Likelihood(-0.1, ((7, -0.1), (2**31, -9999.0)))

COMMAND_LIST: list[Command] = [
    Open(EngineDescription("/a b", 9, 8, EngineSettings("echo"), end_token_ids=(1, 2)), 0.5),
    Submit(REQUEST),
    Cancel("sequence-1"),
    Close(),
]
REPORT_LIST: list[Report] = [
    Opened(Capabilities("echo", "1", "cpu", "exact", 9, 8, 3, grammars=("json_object", "lark"))),
    Refused(trouble_of(NotEnoughMemory("too large"))),
    Heartbeat(Load(1, 2, 3, CacheUse(0.25, 7))),
    Events(
        Load(1, 0, 4),
        [("a", 7), ("a", ("length", 5, None)), ("b", trouble_of(RequestFailed("no")))],
    ),
    Logged("mooring", 30, "line\nline"),
]


def test_commands_come_out_the_same() -> None:
    data = b"".join(map(frame, COMMAND_LIST))
    assert list(Frames(COMMANDS).feed(data)) == COMMAND_LIST


def test_reports_come_out_the_same_however_they_are_cut() -> None:
    data = b"".join(map(frame, REPORT_LIST))
    for size in (1, 3, 50):
        frames = Frames(REPORTS)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [report for piece in pieces for report in frames.feed(piece)] == REPORT_LIST


def test_tuples_stay_tuples() -> None:
    (command,) = Frames(COMMANDS).feed(frame(Submit(REQUEST)))
    assert isinstance(command, Submit)
    assert hash(command.request) == hash(REQUEST)


@pytest.mark.parametrize(
    "event",
    [
        Started(),
        Started(3),
        Token(0),
        Token(2**31),
        Token(7, Likelihood(-2.5)),
        Token(7, LIKELY),
        PromptRead(()),
        PromptRead((LIKELY, Likelihood(-3.0))),
        Finished("stop"),
        Finished("length", 9),
    ],
)
def test_events_come_out_the_same(event: Event) -> None:
    (report,) = Frames(REPORTS).feed(frame(Events(Load(0, 0, 0), [("a", pack(event))])))
    assert isinstance(report, Events)
    assert unpack(report.events[0][1]) == event


def test_errors_keep_class_message_and_field() -> None:
    error = error_of(trouble_of(InvalidParameter("must be < 3", param="top_k")))
    assert (type(error), error.message, error.param) == (InvalidParameter, "must be < 3", "top_k")
    failed = unpack(pack(Failed(EngineStopped("gone"))))
    assert isinstance(failed, Failed)
    assert (type(failed.error), failed.error.message) == (EngineStopped, "gone")


def test_every_error_can_be_made_again_and_an_unknown_one_is_the_root() -> None:
    known = [MooringError]
    for kind in known:
        known += kind.__subclasses__()
        assert type(make_error(kind.__name__, "why")) is kind
    assert len(known) > 20
    assert type(make_error("Unheard", "why")) is MooringError
