"""Ask a finished artifact for a few tokens, so that what is published has answered once."""

from pathlib import Path

from mooring.errors import BrokenSource
from mooring.generation import Instruction
from mooring.loading.bundle import open_folder
from mooring.loading.loaded import LoadedModel
from mooring.loading.start import start_service

QUESTION = "What is machine learning?"
TOKENS = 8


def smoke_test(folder: Path) -> str:
    """Load the artifact in `folder`, return a few greedy tokens as text.

    Raises `BrokenSource` if it gives none.
    """
    parameters = {"temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
    with LoadedModel(start_service(open_folder(folder))) as model:
        completion = model.complete([Instruction(QUESTION)], parameters)[0][0]
    if completion.tokens != TOKENS:
        raise BrokenSource(
            f"The smoke test must give {TOKENS} tokens. Given: {completion.tokens}. "
            "Check that the folder holds a trained causal language model."
        )
    return completion.text
