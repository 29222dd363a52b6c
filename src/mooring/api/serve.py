"""Serve a packaged model over HTTP until told to stop."""

from contextlib import ExitStack

from mooring.api.load import plan_of
from mooring.api.observing import observers_of
from mooring.api.watching import Silent, Watcher
from mooring.errors import InvalidParameter
from mooring.http.server import run_server
from mooring.loading.bundle import open_bundle
from mooring.loading.start import identity_of, start_service
from mooring.packaging.plan import require_fit
from mooring.registry import LoggedModel, find_logged_model
from mooring.service.host import ModelHost
from mooring.service.text_service import TextService
from mooring.settings import ServerSettings


def serve(
    uri: str,
    settings: ServerSettings | None = None,
    *,
    tracking_uri: str | None = None,
    watcher: Watcher | None = None,
) -> int:
    """Serve the packaged model behind `uri`; return the exit code once drained.

    The engine runs in a child process that is started again when it dies, or in a server that runs
    already. Raises
    `NotEnoughMemory` before anything is loaded if the model cannot fit, and `EngineStopped` once
    the engine has died too often.
    """
    settings = settings or ServerSettings()
    watcher = watcher or Silent()
    bundle = open_bundle(uri, tracking_uri=tracking_uri)
    _check(settings, bundle.manifest.context_length)
    if settings.engine.upstream is None or settings.engine.upstream.url is None:
        plan = plan_of(bundle.manifest, settings.engine)
        watcher.note(plan.line())
        require_fit(plan)
    if not settings.access.keys and not settings.access.keys_file and not settings.on_loopback:
        watcher.note(
            f"Warning: whoever reaches {settings.host} may use the model. Set --api-keys-file."
        )
    identity = identity_of(bundle, settings.served_model_names)
    host = ModelHost(identity)
    logged: LoggedModel | None = None
    if settings.telemetry.trace_sample_rate > 0:
        logged = find_logged_model(uri, bundle.name, bundle.version, tracking_uri)

    with ExitStack() as stack:
        observers = observers_of(host, settings.telemetry, logged, stack)

        def load() -> TextService:
            running = start_service(bundle, settings.engine, settings.limits, observer=host)
            stack.callback(running.close)
            return running.service

        def announce(url: str) -> None:
            ready = host.state == "ready"
            watcher.note(f"Ready: {identity.label} at {url}" if ready else f"Loading, at {url}")

        return run_server(host, settings, load=load, announce=announce, observers=observers)


def _check(settings: ServerSettings, context_length: int) -> None:
    """Refuse what this model cannot have: a longer context, or a name that nobody can say."""
    asked = settings.engine.context_length
    if asked is not None and asked > context_length:
        raise InvalidParameter(
            f"`max_context` may only shorten the model's context of {context_length} tokens. "
            f"Given: {asked}. Lower it, or leave it out.",
            param="max_context",
        )
    if not all(settings.served_model_names):
        raise InvalidParameter(
            "`served_model_name` must have at least one character. Given: none.",
            param="served_model_name",
        )
