"""Golden answers of a model that is being packaged: which prompts, and who answers them."""

from pathlib import Path

from mooring.generation import Golden
from mooring.loading.tokenizer import TransformersTokenizer
from mooring.spec.prompt import PromptFormat

LONGEST_PROMPT = 96
"""In tokens: long enough for positions to matter, short enough for a large model on a CPU."""

_QUESTION = "What is machine learning?"
_TEXTS = (
    "The",
    "Im Hafen liegt ein Schiff, das morgen früh nach Süden fährt. 港口里有一艘船。",
    "def moor(ship, harbour):\n    if ship.draught > harbour.depth:\n"
    "        raise ValueError(ship)\n    for rope in ship.ropes:\n"
    "        rope.tie(harbour.bollards.pop())\n    return harbour\n\n"
    "A ship that is moored lies still while the water rises and falls. Its ropes are long enough "
    "for the tide and short enough for the quay; who ties them knows the moon and the wind.",
)


def golden_answers(
    snapshot: Path,
    prompt_format: PromptFormat,
    *,
    context_length: int,
    precision: str,
    trust_remote_code: bool,
) -> Golden:
    """Let plain transformers answer a question in the model's own format, and texts as they are.

    They are computed in `precision`, as `choose_golden_precision` says it. Raises
    `MissingDependency` or `NotEnoughMemory` where the model cannot be run here, and `BrokenSource`
    where it cannot be run at all.
    """
    from mooring.engines.transformers.golden import STEPS, make_golden

    tokenizer = TransformersTokenizer(snapshot, trust_remote_code=trust_remote_code)
    rendered = prompt_format.render_instruction(_QUESTION)
    own = prompt_format.adds_special_tokens
    prompts = [tokenizer.encode(rendered, add_special_tokens=own)]
    prompts += [tokenizer.encode(text, add_special_tokens=True) for text in _TEXTS]
    longest = min(LONGEST_PROMPT, context_length - STEPS)
    return make_golden(
        snapshot,
        [ids[:longest] for ids in prompts if ids and longest > 0],
        precision=precision,
        trust_remote_code=trust_remote_code,
    )
