"""Clients that keep asking: so many at once, or so many a second, each answer compared."""

import asyncio
import random
import string
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.soak.exchange import Exchange, completion, exchange
from benchmarks.soak.target import Target


@dataclass(frozen=True)
class Ask:
    """What is sent, the text that must come back, and the kind of request it is."""

    sent: bytes
    expected: str
    kind: str = ""


@dataclass(frozen=True)
class Done:
    """An ask, when it was sent, and what came of it."""

    ask: Ask
    at: float
    exchange: Exchange

    @property
    def right(self) -> bool:
        """Whether the answer is whole, and what it must be."""
        found = self.exchange
        return found.status == 200 and found.ended and found.text == self.ask.expected

    def __str__(self) -> str:
        found = self.exchange
        return f"{self.ask.kind or 'request'}: {found.status} {found.error} {found.body[-80:]!r}"


Asker = Callable[[random.Random], Ask]


def text_of(chance: random.Random, tokens: int) -> str:
    """Return a text of so many tokens that no other request has."""
    return "".join(chance.choices(string.ascii_letters, k=tokens))


def echoed(tokens: int) -> Asker:
    """Ask for a stream of `tokens` tokens."""

    def ask(chance: random.Random) -> Ask:
        text = text_of(chance, tokens)
        return Ask(completion(text), text)

    return ask


@dataclass
class Load:
    """Asks a server from this process; all that is random comes from `chance`."""

    server: Target
    chance: random.Random

    async def once(self, ask: Ask) -> Done:
        """Ask, and wait for the answer; a connection that fails is an answer with status 0."""
        at = time.monotonic()
        try:
            found = await exchange(self.server.port, ask.sent)
        except (OSError, TimeoutError):
            found = Exchange(seconds=time.monotonic() - at)
        return Done(ask, at, found)

    async def closed(self, connections: int, seconds: float, asker: Asker) -> list[Done]:
        """Keep `connections` asking, each the next as soon as it has an answer."""
        ends = time.monotonic() + seconds

        async def keep_asking() -> list[Done]:
            done = []
            while time.monotonic() < ends:
                done.append(await self.once(asker(self.chance)))
            return done

        found = await asyncio.gather(*(keep_asking() for _ in range(connections)))
        return [done for each in found for done in each]

    async def open(self, per_second: float, seconds: float, asker: Asker) -> list[Done]:
        """Send `per_second`, whatever comes back, and wait for all answers."""
        tasks = []
        began = time.monotonic()
        for number in range(round(per_second * seconds)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            tasks.append(asyncio.create_task(self.once(asker(self.chance))))
        return list(await asyncio.gather(*tasks))

    async def storm(self, streams: int, at_once: int, longest: float) -> list[Exchange]:
        """Open streams and leave each after a random time of up to `longest` seconds."""
        gate = asyncio.Semaphore(at_once)

        async def cut() -> Exchange:
            async with gate:
                sent = completion(text_of(self.chance, 1000))
                after = self.chance.uniform(0, longest)
                try:
                    return await exchange(self.server.port, sent, cut_after=after)
                except OSError:
                    return Exchange()

        return list(await asyncio.gather(*(cut() for _ in range(streams))))

    async def idle(self, places: int, seconds: float) -> bool:
        """Wait until all `places` are free, by asking for all at once; return whether they are."""
        ends = time.monotonic() + seconds
        sent = completion(["a"] * places)
        while time.monotonic() < ends:
            if (await exchange(self.server.port, sent)).status == 200:
                return True
            await asyncio.sleep(0.05)
        return False
