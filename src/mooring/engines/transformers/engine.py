"""The transformers engine: the contract around a runner, without importing torch itself."""

import logging
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.engines.contract import Capabilities
from mooring.engines.running import RunningEngine
from mooring.engines.transformers.loader import (
    LoadedModel,
    errors_named,
    load_model,
    transformers_version,
)
from mooring.generation import GRAMMAR_KINDS, MAX_TOP_LOGPROBS
from mooring.settings import EngineSettings

if TYPE_CHECKING:
    from mooring.engines.transformers.constraint import Grammars

logger = logging.getLogger(__name__)


class TransformersEngine(RunningEngine):
    """Runs the model of a snapshot folder; `context_length` is the model's own, in tokens."""

    def __init__(
        self,
        snapshot: Path,
        settings: EngineSettings,
        *,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        context_length: int,
        end_token_ids: tuple[int, ...],
    ) -> None:
        super().__init__()
        self._snapshot = snapshot
        self._settings = settings
        self._dtype = dtype
        self._trust_remote_code = trust_remote_code
        self._context_length = min(context_length, settings.context_length or context_length)
        self._end_token_ids = end_token_ids

    def _open(self) -> Capabilities:
        loaded = load_model(
            self._snapshot,
            self._settings,
            dtype=self._dtype,
            trust_remote_code=self._trust_remote_code,
        )
        from mooring.engines.transformers.runner import Runner

        loaded = replace(loaded, grammars=self._grammars(loaded))
        with errors_named(self._snapshot):
            runner = Runner(loaded, self._end_token_ids, self._settings, self._context_length)
            self._runner = runner
        return Capabilities(
            name="transformers",
            version=transformers_version(),
            device=loaded.device,
            precision=loaded.precision,
            context_length=runner.context_length,
            vocabulary_size=loaded.vocabulary_size,
            max_running=self._settings.max_running,
            top_logprobs=MAX_TOP_LOGPROBS,
            prompt_logprobs=True,
            grammars=GRAMMAR_KINDS if loaded.grammars else (),
        )

    def _grammars(self, loaded: LoadedModel) -> "Grammars | None":
        file = self._snapshot / "tokenizer.json"
        if not file.is_file() or find_spec("llguidance") is None:
            return None
        from mooring.engines.transformers.constraint import Grammars

        try:
            return Grammars(file, self._end_token_ids, loaded.vocabulary_size)
        except ValueError as error:
            logger.warning("Answers cannot be kept to grammars: %s", error)
            return None
