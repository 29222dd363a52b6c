"""API keys: read from a file that may change, found by the hash of what a caller shows."""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from mooring.errors import InvalidInput, Unauthenticated
from mooring.service.callers import Caller
from mooring.settings import ApiKey

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_FIELDS = ("name", "sha256", "max_concurrent", "tokens_per_minute", "models", "metrics")

Stamp = tuple[int, int, int]


def digest_of(key: bytes) -> str:
    """Return what is stored of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key).hexdigest()


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read a YAML or JSON file of keys; raise `InvalidInput` that says what is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InvalidInput(f"{path} must be YAML or JSON.") from None
    entries = content.get("keys") if isinstance(content, Mapping) and len(content) == 1 else None
    if not isinstance(entries, list):
        raise InvalidInput(f"{path} must hold `keys` and nothing else: a list of keys.")
    keys = tuple(_key(entry, f"{path}: key {number}") for number, entry in enumerate(entries, 1))
    for what in ("name", "sha256"):
        values = [getattr(key, what) for key in keys]
        if len(set(values)) < len(values):
            raise InvalidInput(f"{path}: every key must have a `{what}` of its own.")
    return keys


class KeyRing:
    """Knows the keys, and what each caller has in use; follows its file while the server runs."""

    def __init__(
        self,
        keys: Sequence[ApiKey] = (),
        file: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = tuple(keys)
        self._file = file
        self._clock = clock
        self._anonymous = Caller(None, clock)
        self._callers: dict[str, Caller] = {}
        self._stamp = _stamp(file) if file else None
        self._looked = clock()
        self._take(read_keys(file) if file else ())

    @property
    def required(self) -> bool:
        """Whether callers must show a key."""
        return bool(self._own) or self._file is not None

    def find(self, key: bytes | None) -> Caller:
        """Return who shows `key`; raise `Unauthenticated`.

        Every known key is compared, so that the time taken tells nothing about any of them.
        """
        if not self.required:
            return self._anonymous
        self._follow_file()
        if not key:
            raise Unauthenticated(
                "An API key is required. Send it as `Authorization: Bearer KEY`, or as `x-api-key`."
            )
        shown, found = digest_of(key), None
        for digest, caller in self._callers.items():
            if hmac.compare_digest(digest, shown):
                found = caller
        if found is None:
            raise Unauthenticated("The API key is not known to this server.")
        return found

    def _follow_file(self) -> None:
        """Read the file again if it has changed; one that is broken changes nothing."""
        now = self._clock()
        if self._file is None or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keys = read_keys(self._file)
        except InvalidInput as error:
            logger.error("The keys of before stay in use: %s", error.message)
            return
        self._take(keys)
        logger.info("Read %d API keys again.", len(keys))

    def _take(self, keys: Sequence[ApiKey]) -> None:
        """Use these keys; who was known before keeps what is in use."""
        before = self._callers
        self._callers = {}
        for key in (*self._own, *keys):
            caller = before.get(key.sha256) or Caller(key, self._clock)
            caller.change(key)
            self._callers[key.sha256] = caller


def _stamp(file: Path) -> Stamp | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _key(entry: Any, where: str) -> ApiKey:
    if not isinstance(entry, Mapping):
        raise InvalidInput(f"{where} must have the fields {', '.join(_FIELDS)}.")
    for name in entry:
        if name not in _FIELDS:
            near = get_close_matches(str(name), _FIELDS, 1)
            meant = f" Did you mean `{near[0]}`?" if near else ""
            raise InvalidInput(f"{where}: unknown field `{str(name)[:40]}`.{meant}")
    name, digest, models = entry.get("name"), entry.get("sha256"), entry.get("models")
    if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.isprintable():
        raise InvalidInput(f"{where}: `name` must be a text of 1 to 64 characters.")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise InvalidInput(
            f"{where}: `sha256` must be 64 hexadecimal digits in quotes, as `mooring key` shows."
        )
    if models is not None and not (
        isinstance(models, list) and all(isinstance(model, str) for model in models)
    ):
        raise InvalidInput(f"{where}: `models` must be a list of model names.")
    metrics = entry.get("metrics", False)
    if not isinstance(metrics, bool):
        raise InvalidInput(f"{where}: `metrics` must be true or false.")
    return ApiKey(
        name,
        digest,
        max_concurrent=_count(entry, "max_concurrent", where),
        tokens_per_minute=_count(entry, "tokens_per_minute", where),
        models=None if models is None else tuple(models),
        metrics=metrics,
    )


def _count(entry: Mapping[str, Any], name: str, where: str) -> int | None:
    value = entry.get(name)
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidInput(f"{where}: `{name}` must be a whole number >= 1.")
    return value
