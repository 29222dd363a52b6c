"""Keys are found by their hashes, follow their file, and have limits of their own."""

import hmac
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.errors import InvalidInput, RateLimited, Unauthenticated, UnknownModel
from mooring.service.callers import Caller, TokenBudget
from mooring.service.keys import KeyRing, digest_of, read_keys
from mooring.settings import ApiKey

ALICE, BOB = digest_of(b"alice's"), digest_of(b"bob's")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def written(path: Path, *entries: object) -> Path:
    """Write a keys file with a time stamp of its own."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(json.dumps({"keys": list(entries)}))
    os.utime(path, ns=(before + 10**9, before + 10**9))
    return path


def test_a_file_says_who_may_do_what(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(
        f"keys:\n- name: alice\n  sha256: {ALICE}\n  max_concurrent: 2\n"
        f"  tokens_per_minute: 100\n  models: [demo]\n- {{name: bob, sha256: '{BOB}'}}\n"
    )
    assert read_keys(file) == (
        ApiKey("alice", ALICE, max_concurrent=2, tokens_per_minute=100, models=("demo",)),
        ApiKey("bob", BOB),
    )


GOOD = {"name": "a", "sha256": ALICE}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("keys: [", "must be YAML or JSON"),
        ("[]", "must hold `keys` and nothing else"),
        ("{keys: [], key: 1}", "must hold `keys` and nothing else"),
        ("keys: [a]", "key 1 must have the fields name, sha256"),
        (json.dumps({"keys": [{**GOOD, "model": []}]}), "unknown field `model`. Did you mean `mo"),
        (json.dumps({"keys": [{**GOOD, "name": "a\nb"}]}), "`name` must be a text of 1 to 64"),
        (json.dumps({"keys": [{**GOOD, "sha256": "secret"}]}), "`sha256` must be 64 hexadecimal"),
        (json.dumps({"keys": [{**GOOD, "models": "demo"}]}), "`models` must be a list"),
        (json.dumps({"keys": [{**GOOD, "max_concurrent": 0}]}), "must be a whole number >= 1"),
        (json.dumps({"keys": [{**GOOD, "tokens_per_minute": True}]}), "must be a whole number"),
        (json.dumps({"keys": [GOOD, GOOD]}), "every key must have a `name` of its own"),
        (json.dumps({"keys": [GOOD, {**GOOD, "name": "b"}]}), "must have a `sha256` of its own"),
    ],
)
def test_a_broken_file_is_refused_in_words(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(content)
    with pytest.raises(InvalidInput) as error:
        KeyRing(file=file)
    assert says in error.value.message
    assert "secret" not in error.value.message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        KeyRing(file=tmp_path / "none")


def test_without_keys_everybody_comes_in() -> None:
    ring = KeyRing()
    assert ring.find(None).name is None
    assert ring.find(b"anything") is ring.find(None)


def test_an_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    ring = KeyRing(file=written(tmp_path / "keys"))
    with pytest.raises(Unauthenticated, match="not known"):
        ring.find(b"alice's")


@pytest.mark.parametrize("shown", [None, b"", b"alice", b"ALICE'S", b"\xff\xfe", b"x" * 9000])
def test_a_wrong_key_is_refused(shown: bytes | None) -> None:
    ring = KeyRing([ApiKey("alice", ALICE)])
    with pytest.raises(Unauthenticated):
        ring.find(shown)
    assert ring.find(b"alice's").name == "alice"


def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    real: Callable[[str, str], bool] = hmac.compare_digest

    def compare(known: str, shown: str) -> bool:
        compared.append(known)
        return real(known, shown)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ring = KeyRing([ApiKey("alice", ALICE), ApiKey("bob", BOB)])
    assert ring.find(b"alice's").name == "alice"
    assert compared == [ALICE, BOB]


def test_the_file_is_followed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    clock = Clock()
    file = written(tmp_path / "keys", {"name": "alice", "sha256": ALICE})
    ring = KeyRing(file=file, clock=clock)
    alice = ring.find(b"alice's")
    alice.enter()
    written(
        file, {"name": "al", "sha256": ALICE, "max_concurrent": 1}, {"name": "b", "sha256": BOB}
    )
    with pytest.raises(Unauthenticated):
        ring.find(b"bob's")  # not looked at yet: files are looked at once per second
    clock.now += 1
    assert ring.find(b"bob's").name == "b"
    assert ring.find(b"alice's") is alice
    assert alice.name == "al"
    with pytest.raises(RateLimited, match=r"may have 1 requests at once\. In progress: 1"):
        alice.enter()
    written(file, {"name": "b", "sha256": BOB})
    clock.now += 1
    with pytest.raises(Unauthenticated):
        ring.find(b"alice's")


def test_a_file_that_breaks_changes_nothing_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mooring"), "propagate", True)
    clock = Clock()
    file = written(tmp_path / "keys", {"name": "alice", "sha256": ALICE})
    ring = KeyRing(file=file, clock=clock)
    for break_it in (lambda: written(file, "nonsense"), file.unlink):
        caplog.clear()
        break_it()
        for _ in range(3):
            clock.now += 1
            assert ring.find(b"alice's").name == "alice"
        (line,) = caplog.messages
        assert line.startswith(f"The keys of before stay in use: {file}")
    written(file, {"name": "bob", "sha256": BOB})
    clock.now += 1
    assert ring.find(b"bob's").name == "bob"


def test_models_of_a_key() -> None:
    caller = Caller(ApiKey("a", ALICE, models=("demo",)), Clock())
    caller.check_models(("other", "demo"))
    with pytest.raises(UnknownModel):
        caller.check_models(("other",))
    Caller(None, Clock()).check_models(("other",))


def test_tokens_flow_back_and_are_corrected_by_use() -> None:
    clock = Clock()
    budget = TokenBudget(60, clock)
    reserved = budget.reserve(50)
    with pytest.raises(RateLimited, match=r"Left: 10, asked for 30\.") as limited:
        budget.reserve(30)
    assert limited.value.retry_seconds == 20
    reserved.settle(5)
    reserved.settle(0)
    assert budget.left == 55
    clock.now += 3600
    assert budget.left == 60


def test_more_than_a_minute_of_tokens_leaves_a_debt() -> None:
    clock = Clock()
    budget = TokenBudget(60, clock)
    budget.reserve(1000).settle(90)
    assert budget.left == -30
    with pytest.raises(RateLimited, match=r"Left: 0, asked for 1\.") as limited:
        budget.reserve(1)
    assert limited.value.retry_seconds == 31
    clock.now += 31
    budget.reserve(1)
    with pytest.raises(RateLimited) as later:
        budget.reserve(1000)
    assert later.value.retry_seconds == 60


def test_other_limits_for_the_same_key_begin_anew() -> None:
    caller = Caller(ApiKey("a", ALICE, tokens_per_minute=10), Clock())
    caller.reserve(10)
    with pytest.raises(RateLimited):
        caller.reserve(1)
    caller.change(ApiKey("a", ALICE, tokens_per_minute=20))
    caller.reserve(20)
    caller.change(ApiKey("a", ALICE))
    caller.reserve(10**9).settle(10**9)
