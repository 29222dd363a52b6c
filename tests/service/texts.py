"""A byte-level tokenizer and a service on the echo engine, for tests of everything above them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mooring.engines.echo import EchoEngine, EchoSettings
from mooring.generation import SamplingParams
from mooring.service.text_service import TextService
from mooring.settings import ServiceLimits
from mooring.spec.prompt import PromptFormat

CHAT = PromptFormat(
    kind="chat",
    template="{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}",
)


class ByteTokenizer:
    """One token per UTF-8 byte, and 256 as the begin token."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [256] * add_special_tokens + list(text.encode())

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        if not skip_special_tokens:
            return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")
        return bytes(id for id in token_ids if id < 256).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b"<s>"


@contextmanager
def echo_service(
    settings: EchoSettings | None = None,
    *,
    prompt_format: PromptFormat = CHAT,
    limits: ServiceLimits | None = None,
    **defaults: Any,
) -> Iterator[TextService]:
    """Yield a service that answers each prompt with itself; the engine ends with it."""
    engine = EchoEngine(settings)
    try:
        yield TextService(
            engine=engine,
            capabilities=engine.start(),
            tokenizer=ByteTokenizer(),
            prompt_format=prompt_format,
            defaults=SamplingParams().update(defaults),
            limits=limits,
        )
    finally:
        engine.close()
