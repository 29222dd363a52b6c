"""The process above: stopped for a while it loses nothing, and killed it takes all with it."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]

STOPPED = """
from tests.engines.driving import ask
from tests.engines.process.children import EchoChild, children, wait_for
with EchoChild(hang_seconds=2.0, seconds_per_token=0.02) as child:
    (before,) = children()
    answers = [ask(child.engine, [5, 6, n], max_tokens=240, ignore_eos=True) for n in range(8)]
    wait_for(lambda: all(len(answer.tokens) > 20 for answer in answers))
    print("begun", flush=True)
    tokens = [answer.wait().tokens for answer in answers]
    assert tokens == [[5, 6, n] * 80 for n in range(8)]
    assert children() == [before]
    assert child.observed.told == []
    print("complete", flush=True)
"""

LEADER = """
import os, subprocess, sys, time
from mooring.engines.process.ending import end_with, guard_group
end_with(int(sys.argv[1]))
guard_group()
started = subprocess.Popen(["sleep", "600"])
print(os.getpid(), started.pid, flush=True)
time.sleep(600)
"""

# It ends before its guard has begun to watch it.
AT_ONCE = """
import os, subprocess, sys, time
from mooring.engines.process.ending import guard_group
started = subprocess.Popen(["sleep", "600"])
print(os.getpid(), started.pid, flush=True)
guard_group()
os.kill(os.getpid(), 9)
"""

PARENT = f"""
import os, subprocess, sys
subprocess.run([sys.executable, "-c", {LEADER!r}, str(os.getpid())], process_group=0)
"""


def run(script: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)


def line(process: "subprocess.Popen[bytes]") -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().decode().split()


def test_a_parent_that_was_stopped_for_long_goes_on_where_it_was() -> None:
    with run(STOPPED) as parent:
        assert line(parent) == ["begun"]
        process = psutil.Process(parent.pid)
        process.suspend()
        time.sleep(3.5)  # longer than the child may be silent
        process.resume()
        assert line(parent) == ["complete"]
        assert parent.wait(30) == 0


@pytest.mark.parametrize("killed", ["parent", "leader"])
def test_what_an_engine_started_ends_with_it(killed: str) -> None:
    with run(PARENT) as parent:
        leader, started = (psutil.Process(int(pid)) for pid in line(parent))
        (psutil.Process(parent.pid) if killed == "parent" else leader).kill()
        gone, alive = psutil.wait_procs([leader, started], timeout=2)
        assert alive == []
        assert leader in gone
        assert started in gone


def test_what_an_engine_started_ends_with_it_however_soon_that_is() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", AT_ONCE], stdout=subprocess.PIPE, cwd=ROOT, process_group=0
    ) as leader:
        _, started = (psutil.Process(int(pid)) for pid in line(leader))
        gone, alive = psutil.wait_procs([started], timeout=10)
        for process in alive:
            process.kill()
        assert gone == [started]
