"""From a bundle to a running service: choose the engine, start it, put the service in front."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from mooring.engines.contract import Capabilities, Engine, EngineObserver
from mooring.engines.description import EngineDescription, make_engine
from mooring.engines.grammars import GrammarCheck
from mooring.errors import EngineStopped, MooringError
from mooring.loading.bundle import Bundle
from mooring.loading.choice import candidates, conversion_to_run
from mooring.loading.installed import check_installed
from mooring.loading.light_tokenizer import LightTokenizer
from mooring.loading.tokenizer import ModelTokenizer, TransformersTokenizer
from mooring.loading.verdicts import require_agreement
from mooring.service.host import ModelIdentity
from mooring.service.text_service import TextService
from mooring.settings import EngineSettings, ServiceLimits

logger = logging.getLogger(__name__)

UNBOUNDED = ServiceLimits(
    max_waiting=2**20,
    max_waiting_tokens=2**40,
    max_rows=2**20,
    first_token_seconds=math.inf,
    token_seconds=math.inf,
    request_seconds=math.inf,
)
"""For use inside a process, where the callers' own threads are the bound."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started engine and its service; `close` frees both."""

    service: TextService
    close: Callable[[], None]


def start_service(
    bundle: Bundle,
    settings: EngineSettings | None = None,
    limits: ServiceLimits | None = None,
    *,
    observer: EngineObserver | None = None,
) -> Running:
    """Load the model and return its service; blocks until it can answer.

    The engine runs in a thread of this process; with an `observer`, in a supervised child process.
    The upstream engine always runs in a server of its own. `auto` takes the fastest engine that
    starts and agrees with the model's golden tokens. Raises `EngineDisagrees` if none does.
    """
    manifest = bundle.manifest
    tokenizer = tokenizer_of(bundle)
    engine, capabilities = start_engine(bundle, settings or EngineSettings(), observer, tokenizer)
    grammars = GrammarCheck(bundle.snapshot)
    service = TextService(
        engine=engine,
        capabilities=capabilities,
        tokenizer=tokenizer,
        prompt_format=manifest.prompt,
        defaults=manifest.sampling,
        limits=limits,
        check_grammar=grammars,
    )

    def close() -> None:
        engine.close()
        grammars.close()

    return Running(service, close)


def identity_of(bundle: Bundle, served_names: tuple[str, ...] = ()) -> ModelIdentity:
    """Return who this bundle is; it answers to `served_names` and to its own name."""
    return ModelIdentity(
        name=bundle.name,
        version=bundle.version,
        digest=bundle.manifest.digest,
        created=bundle.created,
        served_names=tuple(dict.fromkeys((*served_names, bundle.name))),
    )


def start_engine(
    bundle: Bundle,
    settings: EngineSettings,
    observer: EngineObserver | None = None,
    tokenizer: ModelTokenizer | None = None,
) -> tuple[Engine, Capabilities]:
    """Start the first engine of those that may serve `bundle` which starts and agrees."""
    *others, last = candidates(bundle, settings)
    for choice in others:
        try:
            return _start_agreeing(bundle, choice, observer, tokenizer)
        except MooringError as error:
            logger.warning("The %s engine is passed over: %s", choice.name, error.message)
    return _start_agreeing(bundle, last, observer, tokenizer)


def _start_agreeing(
    bundle: Bundle,
    settings: EngineSettings,
    observer: EngineObserver | None,
    tokenizer: ModelTokenizer | None,
) -> tuple[Engine, Capabilities]:
    check_installed(bundle.manifest, settings.name)
    told = None if observer is None else _OnceChosen(observer)
    engine = engine_of(bundle, settings, told, tokenizer)
    try:
        capabilities = engine.start()
        require_agreement(engine, capabilities, bundle)
    except BaseException:
        engine.close()
        raise
    if told is not None:
        told.chosen = True
    logger.info("The %s engine serves this model.", capabilities.name)
    return engine, capabilities


class _OnceChosen:
    """Tells an observer how an engine fares only once it serves: others may fail in silence."""

    def __init__(self, observer: EngineObserver) -> None:
        self.chosen = False
        self._observer = observer

    def engine_restarting(self) -> None:
        """Pass it on."""
        if self.chosen:
            self._observer.engine_restarting()

    def engine_restarted(self) -> None:
        """Pass it on."""
        if self.chosen:
            self._observer.engine_restarted()

    def engine_failed(self, error: EngineStopped) -> None:
        """Pass it on."""
        if self.chosen:
            self._observer.engine_failed(error)


def engine_of(
    bundle: Bundle,
    settings: EngineSettings,
    observer: EngineObserver | None = None,
    tokenizer: ModelTokenizer | None = None,
) -> Engine:
    """Return the engine, not started, that `settings` say for `bundle`; see `start_service`.

    `tokenizer` is the bundle's own, loaded here if it is needed and not given.
    """
    manifest = bundle.manifest
    conversion = conversion_to_run(manifest, settings)
    description = EngineDescription(
        snapshot=str(bundle.snapshot),
        context_length=manifest.context_length,
        vocabulary_size=manifest.facts.vocabulary_size,
        settings=settings,
        dtype=manifest.dtype,
        trust_remote_code=manifest.trust_remote_code,
        end_token_ids=manifest.facts.end_token_ids,
        converted=None if conversion is None else str(bundle.converted(conversion)),
        paged=conversion is None or conversion.paged,
        converted_weights=None if conversion is None else conversion.weights,
        cache_values_per_token=manifest.facts.cache_values_per_token,
    )
    if settings.name == "upstream":
        from mooring.engines.upstream import UpstreamEngine

        return UpstreamEngine(description, (tokenizer or tokenizer_of(bundle)).text_of, observer)
    if observer is None:
        return make_engine(description)
    from mooring.engines.process import ProcessEngine

    return ProcessEngine(description, observer)


def tokenizer_of(bundle: Bundle) -> ModelTokenizer:
    """Return the bundle's tokenizer, without transformers where packaging found that possible.

    Raises `MissingDependency` where transformers is needed and not installed.
    """
    manifest = bundle.manifest
    if manifest.tokenizer is not None:
        return LightTokenizer(bundle.snapshot, manifest.tokenizer)
    return TransformersTokenizer(bundle.snapshot, trust_remote_code=manifest.trust_remote_code)
