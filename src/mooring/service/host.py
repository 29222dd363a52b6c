"""The model a server serves: who it is, and whether it is ready."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from mooring.errors import EngineStopped, NotReady, UnknownModel
from mooring.observe.levels import EngineFacts, Levels
from mooring.service.text_service import TextService

State = Literal["starting", "ready", "restarting", "leaving", "draining"]
STATES: tuple[State, ...] = get_args(State)

_ENDING = "The server is ending. Try another replica, or again shortly."


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
    """Holds one model from start to drain, and observes its engine."""

    def __init__(self, identity: ModelIdentity) -> None:
        self.identity = identity
        self.failure: EngineStopped | None = None
        self._service: TextService | None = None
        self._restarting = False
        self._restarts = 0
        self._leaving = False
        self._draining = False
        self._when_failed: Callable[[], None] | None = None

    @property
    def state(self) -> State:
        """Where in its life the model is."""
        if self._draining:
            return "draining"
        if self._service is None:
            return "starting"
        if self._restarting:
            return "restarting"
        return "leaving" if self._leaving else "ready"

    @property
    def levels(self) -> Levels:
        """What the server holds now, for its metrics."""
        service = self._service
        if service is None:
            return Levels(self.state, STATES, restarts=self._restarts)
        load, activity, can = service.load, service.activity, service.capabilities
        return Levels(
            state=self.state,
            states=STATES,
            running=load.running,
            waiting=load.waiting,
            steps=load.steps,
            cache_used=load.cache.used,
            preemptions=load.cache.preemptions,
            restarts=self._restarts,
            sequences=activity.sequences,
            sequence_limit=activity.limit,
            waiting_tokens=activity.waiting_tokens,
            buffered_events=service.buffered,
            facts=EngineFacts(can.name, can.version, can.device, can.precision, can.context_length),
        )

    def ready(self, service: TextService) -> None:
        """Open for requests, unless the end has begun."""
        self._service = service

    def leave(self) -> None:
        """Say that the end is near, so that no more is sent here; what comes is still taken."""
        self._leaving = True

    def drain(self) -> None:
        """Let nothing more in: what runs may finish, what waits fails with `NotReady` now."""
        self._draining = True
        if self._service is not None:
            self._service.refuse_waiting(NotReady(_ENDING))

    def engine_restarting(self) -> None:
        """Let nothing in until the engine is back; what is in goes on then."""
        self._restarting = True
        self._restarts += 1

    def engine_restarted(self) -> None:
        """Open again."""
        self._restarting = False

    def engine_failed(self, error: EngineStopped) -> None:
        """Keep `error` as the failure that ends the server."""
        self._restarting = True
        self.failure = error
        if self._when_failed is not None:
            self._when_failed()

    def when_failed(self, call: Callable[[], None]) -> None:
        """Call once the engine has failed for good, from whichever thread learns it."""
        self._when_failed = call

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
        state = self.state
        if state == "draining":
            raise NotReady(_ENDING)
        if state == "starting":
            raise NotReady("The model is loading. Try again shortly.")
        if state == "restarting":
            raise NotReady("The engine is being started again. Try again shortly.")

    def check_name(self, model: str) -> None:
        """Raise `UnknownModel` if `model` is none of the served names."""
        names = self.identity.served_names
        if model not in names:
            raise UnknownModel(
                f"The model must be one of: {', '.join(names)}. Given: {model[:100]!r}.",
                param="model",
            )
