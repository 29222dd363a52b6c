"""Measure how fast a packaged model or a server answers, alone or beside another."""

from dataclasses import dataclass, field, replace

from mooring.bench.engine_target import EngineTarget, Restarts
from mooring.bench.measuring import Progress, measure
from mooring.bench.report import BenchReport
from mooring.bench.server_target import ServerTarget, check_url
from mooring.bench.target import Target
from mooring.bench.work import Scenario, work_list
from mooring.engines.contract import Engine
from mooring.errors import InvalidInput
from mooring.loading.bundle import Bundle, open_bundle
from mooring.loading.choice import candidates
from mooring.loading.start import engine_of
from mooring.registry import registry_failure, using_tracking_uri
from mooring.settings import EngineSettings

NEVER = 1e6
"""Seconds: an engine that is measured may be slow, and is not taken for one that hangs."""

_SMALLEST_VOCABULARY = 256


@dataclass(frozen=True, slots=True)
class Contender:
    """One thing to measure: a packaged model with an engine, or the address of a server.

    `model` is the name to ask a server for, its first if None; `engine` is for packaged models.
    """

    address: str
    engine: EngineSettings | None = None
    model: str | None = None

    @property
    def is_server(self) -> bool:
        """Whether this is a server's address."""
        return self.address.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure: how many requests at once, rounds that count, small lengths."""

    concurrency: tuple[int, ...] = (8, 32)
    runs: int = 3
    quick: bool = False
    tracking_uri: str | None = None
    progress: Progress = field(default=lambda text, done, total: None)


def bench(
    target: Contender, against: Contender | None = None, options: BenchOptions | None = None
) -> BenchReport:
    """Give `target`, and `against` beside it, the work list; return the figures.

    An engine runs in a child process of its own, as in the server. Raises `InvalidInput` if a
    model's context is too short for the work list, `BenchmarkFailed` if a server does not answer.
    """
    options = options or BenchOptions()
    contenders = [target] if against is None else [target, against]
    scenarios = work_list(options.concurrency, quick=options.quick)
    names = _names(contenders)
    targets = [
        _target(contender, name, scenarios, options)
        for contender, name in zip(contenders, names, strict=True)
    ]
    return measure(
        targets,
        scenarios,
        runs=options.runs,
        vocabulary_size=_SMALLEST_VOCABULARY,
        progress=options.progress,
    )


def log_report(uri: str, report: BenchReport, *, tracking_uri: str | None = None) -> str:
    """Put the first target's figures as metrics onto the logged model of `uri`; return its id.

    They are logged in a new run named `bench`. Raises `InvalidInput` for a model without one.
    """
    import mlflow

    with registry_failure(f"log metrics of {uri}"), using_tracking_uri(tracking_uri):
        model_id = mlflow.models.get_model_info(uri).model_id
        if model_id is None:
            raise InvalidInput(f"Only a logged model takes metrics. Given: {uri}.")
        experiment = mlflow.get_logged_model(model_id).experiment_id
        with mlflow.start_run(experiment_id=experiment, run_name="bench"):
            mlflow.log_metrics(report.metrics(), model_id=model_id)
    return str(model_id)


def _names(contenders: list[Contender]) -> list[str]:
    """Name each by its address, with the engine where that alone tells them apart."""
    names = [contender.address for contender in contenders]
    if len(set(names)) == len(names):
        return names
    engines = [c.engine.name if c.engine else "server" for c in contenders]
    if len(set(engines)) == len(engines):
        return [f"{name} ({engine})" for name, engine in zip(names, engines, strict=True)]
    return [f"{name} ({place})" for place, name in enumerate(names, 1)]


def _target(
    contender: Contender, name: str, scenarios: list[Scenario], options: BenchOptions
) -> Target:
    if contender.is_server:
        check_url(contender.address)
        return ServerTarget(contender.address, model=contender.model, name=name)
    bundle = open_bundle(contender.address, tracking_uri=options.tracking_uri)
    _check_context(bundle, scenarios)
    settings = replace(
        candidates(bundle, contender.engine or EngineSettings())[0],
        max_running=max(len(scenario.work) for scenario in scenarios),
        hang_seconds=NEVER,
    )

    def make(restarts: Restarts) -> Engine:
        return engine_of(bundle, settings, restarts)

    return EngineTarget(name, make)


def _check_context(bundle: Bundle, scenarios: list[Scenario]) -> None:
    longest = max(scenario.longest for scenario in scenarios)
    context = bundle.manifest.context_length
    if longest > context:
        raise InvalidInput(
            f"The work list needs a context of {longest} tokens. The model's: {context}. "
            "Measure it with --quick."
        )
