"""In which precision golden tokens are computed: the most exact one that memory has room for."""

from dataclasses import dataclass

from mooring.errors import NotEnoughMemory
from mooring.machine import Machine
from mooring.packaging.plan import sized, weight_bytes
from mooring.spec.facts import ModelFacts

# The rest is for what computes, and for what the machine does besides.
_SHARE_FOR_WEIGHTS = 0.8
_EXACT = "float32"
_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_AS_STORED = "auto"


@dataclass(frozen=True, slots=True)
class GoldenPrecision:
    """What golden tokens are computed in, `auto` for packed weights as they are; and why."""

    precision: str
    reason: str


def choose_golden_precision(facts: ModelFacts, machine: Machine) -> GoldenPrecision:
    """Return float32 where the weights fit into the free memory so, else what they are stored in.

    Raises `NotEnoughMemory` if neither fits.
    """
    free = int(machine.memory_available * _SHARE_FOR_WEIGHTS)
    exact = weight_bytes(facts, _EXACT)
    if exact <= free:
        return GoldenPrecision(
            _EXACT, f"its weights take {sized(exact)}, and {sized(free)} are free for them"
        )
    stored = _NAMES.get(_most_stored(facts), _AS_STORED)
    if facts.weight_bytes <= free:
        return GoldenPrecision(
            stored,
            f"as stored, since in {_EXACT} its weights would take {sized(exact)}, and "
            f"{sized(free)} are free for them",
        )
    raise NotEnoughMemory(
        f"Golden tokens need {sized(facts.weight_bytes)} of memory for the weights. Free for "
        f"them: {sized(free)}. Package on a larger machine, or with --no-golden "
        "and without --optimize."
    )


def _most_stored(facts: ModelFacts) -> str:
    return max(facts.stored_dtypes, key=facts.stored_dtypes.__getitem__, default="")
