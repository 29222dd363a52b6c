"""The model a server serves: who it is, and whether it is ready."""

from dataclasses import dataclass
from typing import Literal

from mooring.errors import NotReady, UnknownModel
from mooring.service.text_service import TextService

State = Literal["starting", "ready", "draining"]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model answers: registry name and version, digest of its files, names it answers to.

    `created` is when it was packaged, in seconds since the epoch.
    """

    name: str
    version: str | None
    digest: str
    created: int
    served_names: tuple[str, ...]

    @property
    def label(self) -> str:
        """Return `name/version@digest` as shown on every answer."""
        return f"{self.name}/{self.version or '-'}@{self.digest[:12]}"

    @property
    def fingerprint(self) -> str:
        """Return the OpenAI `system_fingerprint`."""
        return f"mooring-{self.digest[:12]}"


class ModelHost:
    """Holds one model from start to drain."""

    def __init__(self, identity: ModelIdentity) -> None:
        self.identity = identity
        self.state: State = "starting"
        self._service: TextService | None = None

    def ready(self, service: TextService) -> None:
        """Open for requests, unless the end has begun."""
        self._service = service
        if self.state == "starting":
            self.state = "ready"

    def drain(self) -> None:
        """Let nothing more in; what runs may finish."""
        self.state = "draining"

    def abort(self) -> None:
        """End what still runs: each answer fails with `NotReady`."""
        if self._service is not None:
            self._service.abort(NotReady("The server has ended. Send the request again."))

    @property
    def service(self) -> TextService:
        """Return the service, or raise `NotReady`."""
        self.check_ready()
        assert self._service is not None
        return self._service

    def check_ready(self) -> None:
        """Raise `NotReady` unless requests are taken."""
        if self.state == "draining":
            raise NotReady("The server is ending. Try another replica, or again shortly.")
        if self.state == "starting":
            raise NotReady("The model is loading. Try again shortly.")

    def check_name(self, model: str) -> None:
        """Raise `UnknownModel` if `model` is none of the served names."""
        names = self.identity.served_names
        if model not in names:
            raise UnknownModel(
                f"The model must be one of: {', '.join(names)}. Given: {model[:100]!r}.",
                param="model",
            )
