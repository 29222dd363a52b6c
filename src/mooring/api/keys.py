"""Make API keys, and know them by their hashes."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from mooring.errors import InvalidInput
from mooring.service.keys import digest_of
from mooring.settings import ApiKey


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that nobody else has, and what a server stores of it."""

    name: str
    key: str
    sha256: str


def make_key(name: str) -> NewKey:
    """Return a new random key for `name`; raise `InvalidInput` for a name that cannot be logged."""
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise InvalidInput("The name of a key must be a text of 1 to 64 characters.")
    key = f"mk-{secrets.token_urlsafe(32)}"
    return NewKey(name, key, digest_of(key.encode()))


def keys_of(texts: Sequence[str]) -> tuple[ApiKey, ...]:
    """Return keys without limits, named by their number, which may read the metrics.

    Raises `InvalidInput` for unusable ones.
    """
    for text in texts:
        if not text.isascii() or not text.isprintable() or " " in text or not text:
            raise InvalidInput(
                "An API key must be printable ASCII without spaces. Make one with `mooring key`."
            )
    digests = dict.fromkeys(digest_of(text.encode()) for text in texts)
    return tuple(
        ApiKey(f"key-{number}", digest, metrics=True) for number, digest in enumerate(digests, 1)
    )
