"""A run passes only if its rules were kept, and a whole one does on a good server."""

import asyncio
import random

import pytest
from benchmarks.soak.__main__ import RUNS
from benchmarks.soak.exchange import Exchange, completion, exchange
from benchmarks.soak.load import Ask, Done, echoed
from benchmarks.soak.plan import Plan
from benchmarks.soak.report import Report, percentile, slope
from benchmarks.soak.target import target

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def done(body: bytes, *, status: int = 200, expected: str = "ab") -> Done:
    return Done(Ask(b"", expected), 0.0, Exchange(status, STREAM, body))


def event(text: str) -> bytes:
    return b'data: {"choices":[{"text":"%s"}]}\n\n' % text.encode()


def test_only_a_whole_and_equal_answer_is_right() -> None:
    end = b"data: [DONE]\n\n"
    assert done(event("a") + b": ping\n\n" + event("b") + end).right
    assert not done(event("a") + event("b")).right
    assert not done(event("a") + event("c") + end).right
    assert not done(event("a") + event("b") + end, status=503).right
    failed = done(b'data: {"error":{"code":"engine_stopped"}}\n\n' + end)
    assert (failed.right, failed.exchange.error) == (False, "engine_stopped")


def test_a_report_passes_only_with_rules_that_were_all_kept() -> None:
    report = Report("a run")
    assert not report.passed
    report.at_most("seconds", 1.0, 2.0)
    report.none("wrong answer", [])
    assert report.passed
    report.at_most("seconds", 3.0, 2.0)
    assert (report.passed, report.only_slow) == (False, True)
    report.none("wrong answer", ["this one"])
    assert (report.passed, report.only_slow) == (False, False)
    assert [check.found for check in report.checks] == ["1", "0", "3", "1, first this one"]


def test_percentiles_and_slopes() -> None:
    assert [percentile(range(100), share) for share in (0, 50, 99, 100)] == [0, 50, 99, 99]
    assert percentile([], 50) == 0
    assert slope([0, 1, 2, 3, 4], [1, 3, 5, 900, 9]) == pytest.approx(2)


def test_a_server_is_asked_cut_and_ended() -> None:
    async def test() -> None:
        with target("--step", 0.002) as server:
            ask = echoed(50)(random.Random(1))
            found = await exchange(server.port, ask.sent)
            assert Done(ask, 0.0, found).right
            assert (len(found.gaps), found.error) == (len(found.events), None)
            cut = await exchange(server.port, completion("x" * 3000), cut_after=0.1)
            assert (cut.status, cut.ended) == (200, False)
            assert server.stop(20) == 0

    asyncio.run(test())


def test_a_run_finds_a_good_server_good_and_every_run_says_what_it_does() -> None:
    report = asyncio.run(RUNS["smoke"](Plan(short=True, seed=1, slowness=100.0)))
    assert report.passed
    assert report.figures["statuses"] == {"200": 64}
    assert all(run.__doc__ for run in RUNS.values())
