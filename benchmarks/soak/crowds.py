"""Runs under load: many, too many, mixed, cut off, slow and half-open clients."""

import asyncio
import json
import random
import socket
import time
from collections import defaultdict
from itertools import chain
from statistics import mean

from benchmarks.soak.exchange import completion, exchange
from benchmarks.soak.load import Ask, Asker, Done, Load, echoed, text_of
from benchmarks.soak.plan import Plan
from benchmarks.soak.report import Check, Report, percentile
from benchmarks.soak.target import Target, target

RUNNING, WAITING = 8, 56
STEP = 0.01
KEYS = "few", "many"
# As many prompts as one call may have, which are as many as may run and wait.
ROWS = RUNNING + WAITING


async def smoke(plan: Plan) -> Report:
    """16 streams at once, 64 requests: all right, and soon begun."""
    report = Report("smoke")
    with target("--step", STEP, "--running", 16) as server:
        load = Load(server, plan.chance())
        asks = [echoed(100)(load.chance) for _ in range(64)]
        done: list[Done] = []
        for start in range(0, 64, 16):
            done += await asyncio.gather(*(load.once(ask) for ask in asks[start : start + 16]))
        firsts = [one.exchange.first or 0.0 for one in done]
        report.count([one.exchange for one in done])
        report.none("wrong answer", [one for one in done if not one.right])
        report.at_most("first token p95, s", percentile(firsts, 95), 0.15 * plan.slowness)
    return report


async def overload(plan: Plan) -> Report:
    """Ten times what the server can do: what it takes it finishes, the rest it refuses at once."""
    report = Report("overload")
    tokens, seconds = 50, plan.seconds(60, short=8)
    with target("--step", STEP, "--running", RUNNING, "--waiting", WAITING) as server:
        load = Load(server, plan.chance())
        alone = await load.closed(2 * RUNNING, max(3.0, seconds / 6), echoed(tokens))
        capacity = _right_per_second(alone)
        lags = asyncio.create_task(_lags(server, seconds))
        done = await load.open(10 * capacity, seconds, echoed(tokens))
        refused = [one for one in done if one.exchange.status == 503]
        report.count([one.exchange for one in done])
        report.figures["capacity_per_second"] = round(capacity, 2)
        report.none("answer but 200 and 503", _other(done, {200, 503}))
        report.none("wrong 200", [d for d in done if d.exchange.status == 200 and not d.right])
        report.none("503 without retry-after", [
            one for one in refused if "retry-after" not in one.exchange.headers
        ])  # fmt: skip
        refusals = [one.exchange.seconds for one in refused]
        report.at_most("503 p99, s", percentile(refusals, 99), 0.02 * plan.slowness)
        lost = 1 - _right_per_second(done) / capacity
        report.at_most("goodput lost", lost, 0.1)
        report.at_most("loop lag p99, s", percentile(await lags, 99), 0.05 * plan.slowness)
        report.checks.append(await _idle(load))
    return report


async def mixed(plan: Plan) -> Report:
    """Prompts and answers of all lengths, two keys: none waits three times as long as its like.

    Likes are prompts of one length, whoever sends them: the key with few connections hardly waits,
    only until a place comes free.
    """
    report = Report("mixed")
    seconds = plan.seconds(180, short=12)
    keys = [option for key in KEYS for option in ("--key", key)]
    with target("--step", STEP / 2, "--running", RUNNING, "--waiting", WAITING, *keys) as server:
        load = Load(server, plan.chance())
        found = await asyncio.gather(
            load.closed(24, seconds, _mixed(KEYS[1])), load.closed(6, seconds, _mixed(KEYS[0]))
        )
        done = [one for each in found for one in each]
        waits: dict[str, list[float]] = defaultdict(list)
        likes: dict[str, list[float]] = defaultdict(list)
        settled = min(one.at for one in done) + seconds / 6
        for one in done:
            if one.at > settled and one.exchange.first is not None:
                waits[one.ask.kind].append(one.exchange.first)
                likes[one.ask.kind.split(", ")[1]].append(one.exchange.first)
        report.count([one.exchange for one in done])
        report.figures["waits_s"] = {
            kind: [len(w), round(mean(w), 3), round(max(w), 3)] for kind, w in sorted(waits.items())
        }
        report.none("wrong answer", [one for one in done if not one.right])
        worst = max(max(like) / mean(like) for like in likes.values())
        report.at_most("longest wait, by mean of its like", worst, 3.0)
        few, many = ([w for kind, w in waits.items() if kind.startswith(key)] for key in KEYS)
        shorter = mean(chain(*few)) / mean(chain(*many))
        report.at_most("mean wait of few, by that of many", shorter, 0.5)
    return report


async def storm(plan: Plan) -> Report:
    """200 streams cut at random times, again and again: nothing stays behind."""
    report = Report("storm")
    with target("--step", STEP, "--running", RUNNING, "--waiting", WAITING) as server:
        load = Load(server, plan.chance())
        await load.storm(100, 50, 0.5)
        await load.idle(ROWS, 5)
        before = server.held()
        for _ in range(plan.times(30, short=3)):
            await load.storm(200, 100, plan.seconds(2, short=0.5))
            report.checks.append(await _idle(load))
        await asyncio.sleep(0.5)
        after = server.held()
        report.at_most("megabytes more", after.megabytes - before.megabytes, 20, time=False)
        report.none("descriptor more", max(0, after.descriptors - before.descriptors))
        report.none("process more", after.processes - before.processes)
        right = await load.once(echoed(20)(load.chance))
        report.none("wrong answer afterwards", [] if right.right else [right])
    return report


async def slow_readers(plan: Plan) -> Report:
    """20 clients that hardly read beside 8 that do: those notice nothing."""
    report = Report("slow readers")
    seconds = plan.seconds(30, short=5)
    with target("--step", STEP, "--running", 32, "--waiting", ROWS - 32) as server:
        load = Load(server, plan.chance())
        alone = await load.closed(8, seconds, echoed(50))
        slow = [_hardly_reading(server) for _ in range(20)]
        beside = await load.closed(8, seconds, echoed(50))
        for connection in slow:
            connection.close()
        report.none("wrong answer", [one for one in alone + beside if not one.right])
        lost = 1 - _right_per_second(beside) / _right_per_second(alone)
        report.at_most("throughput lost", lost, 0.1 * plan.slowness)
        report.checks.append(await _idle(load))
    return report


async def slowloris(plan: Plan) -> Report:
    """200 requests that never come whole: others are served, and these are closed in time."""
    report = Report("slowloris")
    patience = plan.seconds(10, short=2)
    times = ("--header-seconds", patience, "--body-seconds", patience)
    with target("--step", STEP, "--running", RUNNING, "--waiting", WAITING, *times) as server:
        load = Load(server, plan.chance())
        alone = await load.closed(4, patience / 2, echoed(20))
        halves = [asyncio.create_task(_half(server, number)) for number in range(200)]
        beside = await load.closed(4, patience / 2, echoed(20))
        closed = await asyncio.gather(*halves)
        report.none("wrong answer", [one for one in alone + beside if not one.right])
        before, after = (percentile(_firsts(done), 95) for done in (alone, beside))
        allowed = 2 * before + 0.02 * plan.slowness  # a step and a half more than twice that alone
        report.at_most("first token p95, s", after, allowed)
        report.at_most("closed after, s", max(closed), patience + 3 * plan.slowness)
        report.at_most("closed too early, s", patience - min(closed), 0.5)
    return report


def _right_per_second(done: list[Done]) -> float:
    """Count the right answers a second, between the first question and the last answer."""
    ends = [one.at + one.exchange.seconds for one in done if one.right]
    if not ends:
        return 0.0
    return len(ends) / (max(ends) - min(one.at for one in done))


def _other(done: list[Done], statuses: set[int]) -> list[Done]:
    return [one for one in done if one.exchange.status not in statuses]


def _firsts(done: list[Done]) -> list[float]:
    return [one.exchange.first for one in done if one.exchange.first is not None]


async def _idle(load: Load) -> Check:
    free = await load.idle(ROWS, 5)
    return Check("places free again", str(free), free)


async def _lags(server: Target, seconds: float) -> list[float]:
    """Ask for health again and again, and return how long each answer took."""
    lags = []
    ends = time.monotonic() + seconds
    sent = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    while time.monotonic() < ends:
        lags.append((await exchange(server.port, sent)).seconds)
        await asyncio.sleep(0.1)
    return lags


def _mixed(key: str) -> Asker:
    def ask(chance: random.Random) -> Ask:
        tokens = chance.choice((1, 10, 100, 1000, 2000))
        longest = chance.randint(1, 256)
        text = text_of(chance, tokens)
        sent = completion(text, f"authorization: Bearer {key}", max_tokens=longest)
        # The first token begins the prompt and is no text.
        return Ask(sent, text[: longest - 1], f"{key}, {tokens} tokens")

    return ask


def _hardly_reading(server: Target) -> socket.socket:
    """Ask for a long stream over a connection that takes next to nothing, and read nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(completion(json.dumps("x" * 100), ignore_eos=True, max_tokens=3900))
    return connection


async def _half(server: Target, number: int) -> float:
    """Send a part of a request and return the seconds until the server has had enough."""
    began = time.monotonic()
    head, _, _ = completion("hi").partition(b"\r\n\r\n")
    sent = head[: 10 + number] if number % 2 else head + b'\r\n\r\n{"model"'
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    try:
        while await reader.read(4096):
            pass
    except ConnectionError:
        pass
    writer.close()
    return time.monotonic() - began
