"""Finds out whether a grammar can be used, before a request with it is let in."""

import json
import re
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Timer

from mooring.errors import InvalidParameter
from mooring.generation import Grammar

MAX_CHARACTERS = 100_000

_TOO_LONG = "it takes too much time or memory to compile"
# The process has a bound of its own, in processor time; this one is for when it does not run.
_PATIENCE_SECONDS = 30.0
_REMEMBERED = 256


class GrammarCheck:
    """Tries grammars one after the other in a process of its own, started when first needed.

    `snapshot` is the model's folder. What was tried is remembered.
    """

    def __init__(self, snapshot: Path) -> None:
        self._tokenizer = snapshot / "tokenizer.json"
        self._reasons: OrderedDict[Grammar, str | None] = OrderedDict()
        self._process: subprocess.Popen[str] | None = None
        self._executor = ThreadPoolExecutor(1, "grammar-check")

    def __call__(self, grammar: Grammar) -> "Future[None]":
        """Begin to check; the result raises `InvalidParameter` naming the field and the reason."""
        return self._executor.submit(self._check, grammar)

    def close(self) -> None:
        """End the process; what waits is given up."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._process is not None:  # what is tried now ends with it
            self._process.kill()
        self._executor.shutdown()
        self._end()

    def _check(self, grammar: Grammar) -> None:
        if len(grammar.source) > MAX_CHARACTERS:
            raise InvalidParameter(
                f"`{grammar.param}` must have at most {MAX_CHARACTERS} characters. "
                f"Given: {len(grammar.source)}.",
                param=grammar.param,
            )
        reason = self._reason(grammar)
        if reason is not None:
            if grammar.kind == "lark" and not grammar.param.startswith("structured_outputs"):
                reason = _without_source(reason)
            raise InvalidParameter(
                f"`{grammar.param}` cannot be used: {reason}. Correct or simplify it.",
                param=grammar.param,
            )

    def _reason(self, grammar: Grammar) -> str | None:
        if grammar not in self._reasons:
            self._reasons[grammar] = self._try(grammar)
            if len(self._reasons) > _REMEMBERED:
                self._reasons.popitem(last=False)
        self._reasons.move_to_end(grammar)
        return self._reasons[grammar]

    def _try(self, grammar: Grammar) -> str | None:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        patience = Timer(_PATIENCE_SECONDS, process.kill)
        patience.start()
        try:
            process.stdin.write(json.dumps([grammar.kind, grammar.source]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            patience.cancel()
        if not answer:
            self._end()
            return _TOO_LONG
        reason: str | None = json.loads(answer)
        return reason

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mooring.engines.grammars.checker", self._tokenizer],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                process_group=0,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _without_source(reason: str) -> str:
    """Return a reason without lines of a grammar that the client has not written."""
    return re.sub(r"^at \d+\(\d+\): | \d+ \| .*", "", reason)
