"""A server of a real engine whose model, tiny and of random weights, says anything it may."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mooring.engines.grammars import GrammarCheck
from mooring.engines.transformers import TransformersEngine
from mooring.generation import SamplingParams
from mooring.loading.tokenizer import TransformersTokenizer
from mooring.service.text_service import TextService
from mooring.settings import EngineSettings, ServerLimits, ServerSettings
from mooring.spec.prompt import PromptFormat
from tests.http.serving import PATIENCE, Running, serving
from tests.models import CONTEXT_LENGTH, END, tiny_llama


@contextmanager
def serving_random_weights(folder: Path, prompt_format: PromptFormat) -> Iterator[Running]:
    """Yield a server that is ready; its model is written into `folder`."""
    snapshot = tiny_llama(folder / "llama")
    engine = TransformersEngine(
        snapshot,
        EngineSettings(device="cpu"),
        context_length=CONTEXT_LENGTH,
        end_token_ids=(END,),
    )
    check = GrammarCheck(snapshot)
    service = TextService(
        engine=engine,
        capabilities=engine.start(),
        tokenizer=TransformersTokenizer(snapshot),
        prompt_format=prompt_format,
        defaults=SamplingParams(),
        check_grammar=check,
    )
    settings = ServerSettings(port=0, server=ServerLimits(drain_seconds=PATIENCE))
    try:
        with serving(service, settings) as running:
            yield running
    finally:
        engine.close()
        check.close()
