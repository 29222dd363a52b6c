"""Runs in which something dies: the server at its end, the engine by force, poisoned requests."""

import asyncio
import json
import random
import subprocess
import time
from statistics import mean

from benchmarks.soak.crowds import RUNNING, STEP, WAITING
from benchmarks.soak.exchange import request
from benchmarks.soak.load import Ask, Done, Load, echoed
from benchmarks.soak.plan import Plan
from benchmarks.soak.report import Report, percentile, slope
from benchmarks.soak.target import Held, Target, target

# The third death within a minute of work ends a server: kills are further apart.
KILL_SECONDS = 35.0

POISON: list[tuple[str, bytes, int]] = [
    ("/v1/completions", b"", 400),
    ("/v1/completions", b"[" * 100_000, 400),
    ("/v1/completions", b'{"model":"echo","prompt":"a","seed":' + b"1" * 5000 + b"}", 400),
    ("/v1/completions", b'{"model":"echo","prompt":"\xff"}', 400),
    ("/v1/completions", b'{"model":"echo","prompt":"a","temperature":NaN}', 400),
    ("/v1/completions", b'{"model":"echo","prompt":"a","n":1000000000}', 400),
    ("/v1/completions", b'{"model":"echo","prompt":"' + b"x" * 900_000 + b'"}', 400),
    ("/v1/completions", b'{"model":"echo","prompt":"' + b"x" * 1_100_000 + b'"}', 413),
    ("/v1/completions", b'{"model":"other","prompt":"a"}', 404),
    ("/v1/completions", b'{"model":"echo","prompt":[1,2,999999]}', 400),
    ("/v1/chat/completions", b'{"model":"echo","messages":[{"role":"user","content":5}]}', 400),
    ("/v1/chat/completions", b'{"model":"echo","messages":[],"tools":5}', 400),
    ("/invocations", b'{"inputs":["a",""]}', 400),
    ("/invocations", json.dumps({"inputs": ["a"] * 10**5}).encode(), 400),
    ("/v1/nothing", b"{}", 404),
]


async def drain(plan: Plan) -> Report:
    """SIGTERM at a random moment under load: every stream has an end, and the exit code is 0."""
    report = Report("drain")
    endless: list[Done] = []
    slow: list[float] = []
    codes: list[int] = []
    allowed = 1 + 3 + 2 * plan.slowness
    chance = plan.chance()
    for _ in range(plan.times(30, short=3)):
        options = ("--step", STEP, "--running", RUNNING, "--waiting", 16, "--drain-seconds", 1)
        with target(*options) as server:
            load = Load(server, chance)
            asks = [echoed(chance.randint(5, 400))(chance) for _ in range(20)]
            asking = [asyncio.create_task(load.once(ask)) for ask in asks]
            await asyncio.sleep(chance.uniform(0.05, 0.8))
            began = time.monotonic()
            try:
                codes.append(await asyncio.to_thread(server.stop, 30))
            except subprocess.TimeoutExpired:
                codes.append(-1)
            slow.append(time.monotonic() - began)
            endless += [one for one in await asyncio.gather(*asking) if not one.exchange.ended]
    report.none("answer without an end", endless)
    report.none("exit code but 0", [code for code in codes if code])
    report.at_most("slowest end, s", max(slow), allowed)
    return report


async def kill(plan: Plan) -> Report:
    """The engine is killed again and again under 8 streams: no answer is wrong or lost."""
    report = Report("kill")
    times = plan.times(17, short=2)
    every = plan.seconds(KILL_SECONDS, short=4)
    with target("--step", STEP, "--running", RUNNING, "--waiting", WAITING) as server:
        load = Load(server, plan.chance())
        loading = asyncio.create_task(_patient(load, 12, times * every))
        before = server.held()
        back = []
        for _ in range(times):
            await asyncio.sleep(every / 2)
            back.append(await _kill(server))
            await asyncio.sleep(every / 2)
        done = await loading
        _judge_deaths(report, done, before, server.held_at_last(before))
        report.figures["seconds_until_ready"] = [round(one, 2) for one in back]
        report.at_most("longest restart, s", max(back), 10 * plan.slowness)
    return report


async def stop(plan: Plan) -> Report:
    """The engine is stopped, not killed: that is found out in time, and no answer is lost."""
    report = Report("stop")
    times = plan.times(10, short=1)
    hang = plan.seconds(10, short=2)
    options = ("--running", RUNNING, "--waiting", WAITING, "--hang-seconds", hang)
    with target("--step", STEP, *options) as server:
        load = Load(server, plan.chance())
        loading = asyncio.create_task(_patient(load, 4, times * (KILL_SECONDS + hang) - hang))
        before = server.held()
        found = []
        for number in range(times):
            await asyncio.sleep(KILL_SECONDS if number else 1)
            engine = server.engine
            assert engine is not None
            engine.suspend()
            began = time.monotonic()
            await _await(server, 503)
            found.append(time.monotonic() - began)
            await _await(server, 200)
        if plan.short:
            await asyncio.sleep(1)
            loading.cancel()
            done = [await load.once(echoed(50)(load.chance))]
        else:
            done = await loading
        _judge_deaths(report, done, before, server.held_at_last(before))
        report.figures["seconds_until_found"] = [round(one, 2) for one in found]
        report.at_most("latest found, s", max(found), hang + 2 * plan.slowness)
        report.at_most("found too early, s", hang - min(found), 2)
    return report


async def poison(plan: Plan) -> Report:
    """One request in a hundred is bad: it is refused, the good ones are right to the byte."""
    report = Report("poison")
    wrong: list[str] = []

    def ask(chance: random.Random) -> Ask:
        if chance.random() > 0.01 * (5 if plan.short else 1):
            return echoed(30)(chance)
        path, body, status = chance.choice(POISON)
        return Ask(request(path, body), str(status), "poison")

    with target("--step", STEP / 2, "--running", RUNNING, "--waiting", WAITING) as server:
        done = await Load(server, plan.chance()).closed(16, plan.seconds(600, short=8), ask)
        for one in done:
            if one.ask.kind == "poison" and one.exchange.status not in (int(one.ask.expected), 0):
                wrong.append(str(one))
        good = [one for one in done if one.ask.kind != "poison"]
        report.count([one.exchange for one in done])
        report.figures["poison"] = len(done) - len(good)
        report.none("good request answered wrong", [one for one in good if not one.right])
        report.none("bad request answered otherwise", wrong)
        report.none("500", [one for one in done if one.exchange.status == 500])
        report.none("traceback in the log", server.log.count("Traceback"))
    return report


async def soak(plan: Plan) -> Report:
    """An hour of steady load with storms and deaths: nothing grows, nothing becomes slower."""
    report = Report("soak")
    seconds = 20.0 if plan.short else 60 * plan.minutes
    samples: list[tuple[float, Held]] = []
    with target("--step", STEP, "--running", RUNNING, "--waiting", WAITING) as server:
        load = Load(server, plan.chance())
        loading = asyncio.create_task(_patient(load, 4, seconds))
        troubling = asyncio.create_task(_trouble(load, seconds, plan))
        began = time.monotonic()
        while not loading.done():
            await asyncio.sleep(min(10.0, seconds / 20))
            samples.append((time.monotonic() - began, server.held()))
        done = await loading
        await troubling
        report.none("wrong answer", [one for one in done if not one.right])
        _judge_growth(report, samples, done, plan)
    report.count([one.exchange for one in done])
    return report


def _judge_growth(
    report: Report, samples: list[tuple[float, Held]], done: list[Done], plan: Plan
) -> None:
    settled = samples[len(samples) // 6 :]
    times = [at for at, _ in settled]
    growth = 600 * slope(times, [held.megabytes for _, held in settled])
    report.figures["megabytes"] = [round(settled[0][1].megabytes), round(settled[-1][1].megabytes)]
    if plan.short:  # too short for a slope
        grown = settled[-1][1].megabytes - settled[0][1].megabytes
        report.at_most("MB more", grown, 20, time=False)
    else:
        report.at_most("MB more in 10 minutes", growth, 1.0, time=False)
    for name in ("descriptors", "threads", "processes"):
        values = [float(getattr(held, name)) for _, held in settled]
        report.figures[name] = [int(values[0]), int(values[-1])]
        more = 600 * slope(times, values)
        report.at_most(f"{name} more in 10 minutes", more, 0.1, time=False)
    sixth = len(done) // 6
    ordered = sorted(done, key=lambda one: one.at)
    first, last = (
        percentile([g for one in part for g in one.exchange.gaps], 99)
        for part in (ordered[:sixth], ordered[-sixth:])
    )
    report.figures["gap_p99_ms"] = [round(1000 * first, 2), round(1000 * last, 2)]
    report.at_most("p99 of gaps, last by first", last / first, 1.2 * plan.slowness)


async def _trouble(load: Load, seconds: float, plan: Plan) -> None:
    """A storm every five minutes, and the engine killed every ten; sooner in a short run."""
    ends = time.monotonic() + seconds
    pause = 300.0 if not plan.short else seconds / 4
    number = 0
    while time.monotonic() + pause < ends:
        await asyncio.sleep(pause)
        number += 1
        await load.storm(200 if not plan.short else 50, 40, 1.0)
        if number % 2 == 0:
            await _kill(load.server)


async def _patient(load: Load, connections: int, seconds: float) -> list[Done]:
    """Keep asking, and ask again what was refused because there was no engine or no place."""

    def refused(one: Done) -> bool:
        return one.exchange.status == 503 and "retry-after" in one.exchange.headers

    ends = time.monotonic() + seconds

    async def keep_asking() -> list[Done]:
        done = []
        while time.monotonic() < ends:
            one = await load.once(echoed(load.chance.randint(20, 120))(load.chance))
            if refused(one):
                await asyncio.sleep(0.2)
            else:
                done.append(one)
        return done

    found = await asyncio.gather(*(keep_asking() for _ in range(connections)))
    return [one for each in found for one in each]


async def _kill(server: Target) -> float:
    """Kill the engine and return the seconds until the server is ready again."""
    engine = server.engine
    assert engine is not None
    engine.kill()
    began = time.monotonic()
    await _await(server, 503)
    await _await(server, 200)
    return time.monotonic() - began


async def _await(server: Target, status: int) -> None:
    ends = time.monotonic() + 60
    while await asyncio.to_thread(server.status) != status:
        if time.monotonic() > ends:
            raise TimeoutError(f"The server did not answer {status}.")
        await asyncio.sleep(0.02)


def _judge_deaths(report: Report, done: list[Done], before: Held, after: Held) -> None:
    report.count([one.exchange for one in done])
    report.figures["mean_seconds"] = round(mean(one.exchange.seconds for one in done), 2)
    report.none("wrong answer", [one for one in done if not one.right])
    report.none("process more", after.processes - before.processes)
    report.none("descriptor more", max(0, after.descriptors - before.descriptors))
