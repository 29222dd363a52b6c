"""A whole server around the echo engine in its child process, as a program to be tormented.

    python -m benchmarks.soak.echo_server --port 8000 --step 0.01

It answers each prompt with itself, a token per byte, at one token per step and sequence; so what
every answer must be is known. Nothing heavy is imported: it is up in about a second.
"""

import argparse
import sys
from collections.abc import Sequence

from mooring.cli.output import fail
from mooring.engines.description import EngineDescription
from mooring.engines.process import ProcessEngine
from mooring.errors import EngineStopped, MooringError
from mooring.generation import SamplingParams
from mooring.http.server import run_server
from mooring.service.host import ModelHost, ModelIdentity
from mooring.service.keys import digest_of
from mooring.service.text_service import TextService
from mooring.settings import (
    AccessSettings,
    ApiKey,
    EngineSettings,
    ServerLimits,
    ServerSettings,
    ServiceLimits,
)
from mooring.spec.prompt import PromptFormat

CONTEXT_LENGTH = 4096
_VOCABULARY_SIZE = 257
_BEGIN = 256
_EXIT_ENGINE_DIED = 70

_CHAT = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"


class Bytes:
    """A tokenizer with one token per UTF-8 byte, and one that begins a prompt."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the ids of `text`."""
        return [_BEGIN] * add_special_tokens + list(text.encode())

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of `token_ids`; the special one has none."""
        return bytes(id for id in token_ids if id < _BEGIN).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Return the byte that a token is."""
        return bytes([token_id]) if token_id < _BEGIN else b""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--step", type=float, default=0.0, help="seconds of one step")
    parser.add_argument("--running", type=int, default=8, help="sequences that run side by side")
    parser.add_argument("--waiting", type=int, default=64, help="sequences that may wait")
    parser.add_argument("--hang-seconds", type=float, default=10.0)
    parser.add_argument("--body-seconds", type=float, default=10.0)
    parser.add_argument("--header-seconds", type=float, default=10.0)
    parser.add_argument("--stalled-seconds", type=float, default=30.0)
    parser.add_argument("--drain-seconds", type=float, default=30.0)
    parser.add_argument("--key", action="append", default=[], help="a key that is let in")
    return parser.parse_args()


def main() -> None:
    """Serve until told to stop."""
    given = options()
    host = ModelHost(ModelIdentity("echo", "1", "0" * 64, 1_700_000_000, ("echo",)))
    engine = ProcessEngine(
        EngineDescription(
            snapshot="",
            context_length=CONTEXT_LENGTH,
            vocabulary_size=_VOCABULARY_SIZE,
            settings=EngineSettings(
                "echo", max_running=given.running, hang_seconds=given.hang_seconds
            ),
            seconds_per_token=given.step,
        ),
        host,
    )

    def load() -> TextService:
        return TextService(
            engine=engine,
            capabilities=engine.start(),
            tokenizer=Bytes(),
            prompt_format=PromptFormat(kind="chat", template=_CHAT),
            defaults=SamplingParams(temperature=0.0),
            limits=ServiceLimits(max_waiting=given.waiting),
        )

    try:
        run_server(host, _settings(given), load=load, announce=lambda url: None)
    except EngineStopped as error:
        fail(error, as_json=False)
        sys.exit(_EXIT_ENGINE_DIED)
    except MooringError as error:
        fail(error, as_json=False)
        sys.exit(1)
    finally:
        engine.close()


def _settings(given: argparse.Namespace) -> ServerSettings:
    keys = tuple(ApiKey(key, digest_of(key.encode()), metrics=True) for key in given.key)
    return ServerSettings(
        port=given.port,
        access=AccessSettings(keys),
        server=ServerLimits(
            body_seconds=given.body_seconds,
            header_seconds=given.header_seconds,
            stalled_seconds=given.stalled_seconds,
            drain_seconds=given.drain_seconds,
        ),
    )


if __name__ == "__main__":
    main()
