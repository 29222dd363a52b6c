"""From a bundle to a running service: choose the engine, start it, put the service in front."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from mooring.engines.contract import Engine
from mooring.errors import MissingDependency
from mooring.loading.bundle import Bundle
from mooring.loading.tokenizer import TransformersTokenizer
from mooring.service.host import ModelIdentity
from mooring.service.text_service import TextService
from mooring.settings import EngineSettings, ServiceLimits

UNBOUNDED = ServiceLimits(max_waiting=2**20, max_rows=2**20)
"""For use inside a process, where the callers' own threads are the bound."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started engine and its service; `close` frees both."""

    service: TextService
    close: Callable[[], None]


def start_service(
    bundle: Bundle, settings: EngineSettings | None = None, limits: ServiceLimits | None = None
) -> Running:
    """Load the model and return its service; blocks until it can answer."""
    manifest = bundle.manifest
    engine = _choose_engine(bundle, settings or EngineSettings())
    tokenizer = TransformersTokenizer(bundle.snapshot, trust_remote_code=manifest.trust_remote_code)
    service = TextService(
        engine=engine,
        capabilities=engine.start(),
        tokenizer=tokenizer,
        prompt_format=manifest.prompt,
        defaults=manifest.sampling,
        limits=limits,
    )
    return Running(service, engine.close)


def identity_of(bundle: Bundle, served_names: tuple[str, ...] = ()) -> ModelIdentity:
    """Return who this bundle is; it answers to `served_names` and to its own name."""
    return ModelIdentity(
        name=bundle.name,
        version=bundle.version,
        digest=bundle.manifest.digest,
        created=bundle.created,
        served_names=tuple(dict.fromkeys((*served_names, bundle.name))),
    )


def _choose_engine(bundle: Bundle, settings: EngineSettings) -> Engine:
    manifest = bundle.manifest
    context_length = min(settings.context_length or 2**31, manifest.context_length)
    if settings.name == "echo":
        from mooring.engines.echo import EchoEngine, EchoSettings

        return EchoEngine(
            EchoSettings(
                context_length=context_length,
                vocabulary_size=manifest.facts.vocabulary_size,
                max_running=settings.max_running,
            )
        )
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise MissingDependency(
            "The transformers engine needs torch and transformers. "
            "Install them with: pip install 'mooring[transformers]'"
        )
    from mooring.engines.transformers.engine import TransformersEngine

    return TransformersEngine(
        bundle.snapshot,
        settings,
        dtype=settings.dtype or manifest.dtype,
        trust_remote_code=manifest.trust_remote_code,
        context_length=context_length,
        end_token_ids=manifest.facts.end_token_ids,
    )
