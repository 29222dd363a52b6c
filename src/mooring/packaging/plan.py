"""Computes what a model needs to run, and whether a machine has it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mooring.errors import InvalidInput, NotEnoughMemory, NotEnoughSpace
from mooring.machine import Machine, can_spare
from mooring.safetensors_header import DTYPE_BITS
from mooring.spec.facts import ModelFacts
from mooring.spec.manifest import PREFERRED_WEIGHTS, WeightFormat

BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8, "int4": 4}
UNSTATED_CONTEXT = 8192

# The libraries of a serving process take 0.5 GB (measured); intermediate results and the
# allocator's slack grow with the model.
LIBRARY_BYTES = 500_000_000
WORK_SHARE = 0.1

# Keys and values of the openvino engine have eight bits, with a scale and an offset for each head.
_CONVERTED_CACHE_BITS = 10
# What the converter holds at its peak over the weights in 16 bits (measured on 0.4 and 7 billion).
_CONVERTING_SHARE, _CONVERTING_BYTES = 1.2, 1_000_000_000

_FLOATS = ("F64", "F32", "F16", "BF16")
_ONE_GPU_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion that is run instead of the snapshot: the format of its weights, and its size."""

    weights: str
    size: int

    @property
    def precision(self) -> str:
        """The name of the format among precisions."""
        return {"fp16": "float16"}.get(self.weights, self.weights)


@dataclass(frozen=True)
class Plan:
    """Needs of one model on one machine; sizes in bytes, context in tokens.

    `weight_bytes` holds the size in each precision, `precision` the one that would be used. Needed
    is `weight_bytes[precision] + cache_bytes + overhead_bytes`; the last includes second weights
    that make the model faster, where there is room for them. `largest_context` (at this
    concurrency), `largest_concurrency` (at this context) and `smaller_precision` say what would
    fit, 0 or None where nothing does; `missing_bytes` is what memory lacks for the plan.
    `converting_disk_bytes` and `converting_memory_bytes` are what conversions take while they are
    made, 0 without any.
    """

    model_type: str
    architecture: str
    own_code: bool
    parameters: int
    device: str
    precision: str
    context_length: int
    concurrency: int
    weight_bytes: dict[str, int]
    cache_bytes_per_token: int
    cache_bytes: int
    overhead_bytes: int
    needed_bytes: int
    available_bytes: int
    download_bytes: int
    disk_free_bytes: int
    fits: bool
    missing_bytes: int
    largest_context: int
    largest_concurrency: int
    smaller_precision: str | None
    converting_disk_bytes: int = 0
    converting_memory_bytes: int = 0

    def line(self) -> str:
        """Say it all in one line."""
        memory = "RAM" if self.device == "cpu" else "GPU memory"
        cache = (
            f"cache {sized(self.cache_bytes_per_token)}/token"
            if self.cache_bytes_per_token
            else "no cache per token"
        )
        return (
            f"{self.model_type} {_count(self.parameters)} parameters, "
            f"{sized(self.weight_bytes[self.precision])} in {self.precision}, {cache}; needs "
            f"{sized(self.needed_bytes)} of {sized(self.available_bytes)} free {memory} for "
            f"{self.concurrency} x {self.context_length} tokens: "
            f"{'fits' if self.fits else 'does not fit; ' + self.advice()}{self._converting()}"
        )

    def _converting(self) -> str:
        if not self.converting_memory_bytes:
            return ""
        return (
            f"; converting needs {sized(self.converting_memory_bytes)} RAM and "
            f"{sized(self.converting_disk_bytes)} disk meanwhile"
        )

    def advice(self) -> str:
        """Say what would fit instead, or how much memory is missing."""
        options = []
        if self.largest_concurrency:
            options.append(f"{self.largest_concurrency} at a time")
        if self.largest_context:
            options.append(f"a context of {self.largest_context} tokens")
        if self.smaller_precision:
            options.append(f"{self.smaller_precision} precision")
        missing = f"{sized(self.missing_bytes)} missing"
        return f"{missing}; would fit: {' or '.join(options)}" if options else missing

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def make_plan(
    facts: ModelFacts,
    machine: Machine,
    *,
    dtype: str = "auto",
    context_length: int | None = None,
    concurrency: int = 8,
    converted: Converted | None = None,
) -> Plan:
    """Plan for `concurrency` sequences of `context_length` tokens, by default the model's own.

    With `converted`, that is what runs. Raises `InvalidInput` for a context beyond the model's or a
    number below 1.
    """
    context = _checked_context(facts, context_length)
    tokens = context * _checked_concurrency(concurrency)
    precision = _auto_precision(facts, machine) if dtype == "auto" else dtype
    if converted is not None:
        precision = converted.precision
    room = _Room(facts, machine, precision, converted)
    extra = room.second_weights(tokens)
    needed = room.needed(tokens) + extra
    return Plan(
        model_type=facts.model_type,
        architecture=facts.architecture,
        own_code=facts.own_code,
        parameters=facts.parameters,
        device=room.device,
        precision=precision,
        context_length=context,
        concurrency=concurrency,
        weight_bytes={name: weight_bytes(facts, name) for name in BITS} | {precision: room.weights},
        cache_bytes_per_token=room.per_token,
        cache_bytes=room.per_token * tokens,
        overhead_bytes=room.overhead + extra,
        needed_bytes=needed,
        available_bytes=room.available,
        download_bytes=facts.weight_bytes,
        disk_free_bytes=machine.disk_free,
        fits=needed <= room.available,
        missing_bytes=max(0, needed - room.available),
        largest_context=room.largest(concurrency, most=_own_context(facts)),
        largest_concurrency=room.largest(context, most=concurrency),
        smaller_precision=None if converted else room.smaller_precision(tokens),
    )


def expected_conversion(facts: ModelFacts, formats: Sequence[WeightFormat]) -> Converted | None:
    """Return the conversion that will be run of those to be made, with the size it will have."""
    weights = next((weights for weights in PREFERRED_WEIGHTS if weights in formats), None)
    if weights is None:
        return None
    return Converted(weights, weight_bytes(facts, Converted(weights, 0).precision))


def with_conversions(plan: Plan, facts: ModelFacts, formats: Sequence[str]) -> Plan:
    """Return the plan with what making conversions of these weight formats takes, one by one."""
    full = weight_bytes(facts, "bfloat16")
    kept = [weight_bytes(facts, Converted(weights, 0).precision) for weights in formats]
    memory = int(full * _CONVERTING_SHARE) + _CONVERTING_BYTES
    disk = sum(kept) + (0 if "fp16" in formats else full)
    return replace(
        plan,
        converting_disk_bytes=disk,
        converting_memory_bytes=memory,
    )


def require_room_to_convert(plan: Plan, machine: Machine) -> None:
    """Raise `NotEnoughMemory` or `NotEnoughSpace` where conversions cannot be made."""
    if plan.converting_memory_bytes > machine.memory_available:
        raise NotEnoughMemory(
            f"Converting needs about {sized(plan.converting_memory_bytes)} of memory. Free: "
            f"{sized(machine.memory_available)}. Package on a larger machine, or leave out "
            "--optimize."
        )
    if plan.converting_disk_bytes > machine.disk_free:
        raise NotEnoughSpace(
            f"Converting needs about {sized(plan.converting_disk_bytes)} of disk in the user's "
            f"cache folder. Free: {sized(machine.disk_free)}. Free some, or leave out --optimize."
        )


def require_fit(plan: Plan) -> None:
    """Raise `NotEnoughMemory` with the numbers and what would fit."""
    if not plan.fits:
        raise NotEnoughMemory(
            f"The model must fit into memory: {sized(plan.available_bytes)} are free on "
            f"{plan.device}. Needed: {sized(plan.needed_bytes)} for weights in {plan.precision}, "
            f"{plan.concurrency} x {plan.context_length} tokens and libraries; {plan.advice()}."
        )


def cpu_precision(facts: ModelFacts, machine: Machine) -> str:
    """Return bfloat16 for 16-bit weights on a CPU that computes in it, else float32."""
    return "bfloat16" if facts.half_precision and machine.native_bfloat16 else "float32"


def weight_bytes(facts: ModelFacts, precision: str) -> int:
    """Return the size of the weights in a precision; packed integers stay as they are."""
    floats = sum(facts.stored_dtypes.get(name, 0) for name in _FLOATS)
    packed_bits = sum(
        count * DTYPE_BITS[name]
        for name, count in facts.stored_dtypes.items()
        if name not in _FLOATS
    )
    return (floats * BITS[precision] + packed_bits) // 8


class _Room:
    """What one precision takes on the machine's best device, and what is left for the cache."""

    def __init__(
        self,
        facts: ModelFacts,
        machine: Machine,
        precision: str,
        converted: Converted | None = None,
    ) -> None:
        self._facts, self._machine = facts, machine
        self._converted = converted is not None
        self._precision = precision
        self.device = "cuda" if machine.gpus else "cpu"
        self.weights = weights = converted.size if converted else weight_bytes(facts, precision)
        self.overhead = LIBRARY_BYTES + int(weights * WORK_SHARE)
        self.fixed = weights + self.overhead
        bits = _CONVERTED_CACHE_BITS if converted else BITS[precision]
        self.per_token = (facts.cache_values_per_token or 0) * bits // 8
        self.available = _on_gpus(machine, weights) if machine.gpus else machine.memory_available

    def needed(self, tokens: int) -> int:
        """Return all bytes for that many tokens in the cache."""
        return self.fixed + self.per_token * tokens

    def second_weights(self, tokens: int) -> int:
        """Return the bytes of weights in float32 that are kept beside those in 16 bits.

        They serve passes of many rows on a CPU that was seen to be faster so, and are made only
        where there is memory to spare.
        """
        wanted = self._facts.linear_values * BITS["float32"] // 8
        useful = self._machine.faster_in_float32 and self.device == "cpu" and not self._converted
        if not useful or BITS[self._precision] != 16:
            return 0
        loaded = self.available - self.weights - LIBRARY_BYTES
        left = self.available - self.needed(tokens)
        return wanted if can_spare(wanted, loaded) and wanted <= left else 0

    def smaller_precision(self, tokens: int) -> str | None:
        """Return bfloat16 where that fits and this precision does not."""
        smaller = _Room(self._facts, self._machine, "bfloat16")
        helps = smaller.needed(tokens) <= smaller.available
        return "bfloat16" if helps and self.needed(tokens) > self.available else None

    def largest(self, other: int, *, most: int) -> int:
        """Return the largest factor, up to `most`, whose product with `other` tokens has room."""
        left = self.available - self.fixed
        if left < 0:
            return 0
        return min(most, left // (self.per_token * other)) if self.per_token else most


def _on_gpus(machine: Machine, weights: int) -> int:
    """One GPU is used where the weights fit on it with some room, else all of them."""
    first = machine.gpus[0].memory_free
    return first if weights <= first * _ONE_GPU_SHARE else sum(g.memory_free for g in machine.gpus)


def _auto_precision(facts: ModelFacts, machine: Machine) -> str:
    if not machine.gpus:
        return cpu_precision(facts, machine)
    if not facts.half_precision:
        return "float32" if _is_mostly(facts, "F32") else "bfloat16"
    return "float16" if _is_mostly(facts, "F16") else "bfloat16"


def _is_mostly(facts: ModelFacts, dtype: str) -> bool:
    return max(facts.stored_dtypes, key=facts.stored_dtypes.__getitem__, default="") == dtype


def _own_context(facts: ModelFacts) -> int:
    return facts.context_length or UNSTATED_CONTEXT


def _checked_context(facts: ModelFacts, wanted: int | None) -> int:
    if wanted is None:
        return _own_context(facts)
    if wanted < 1 or wanted > (facts.context_length or wanted):
        raise InvalidInput(
            f"`context_length` must be 1 to {facts.context_length} tokens, the model's own. "
            f"Given: {wanted}.",
            param="context_length",
        )
    return wanted


def _checked_concurrency(wanted: int) -> int:
    if wanted < 1:
        raise InvalidInput(f"`concurrency` must be >= 1. Given: {wanted}.", param="concurrency")
    return wanted


def _count(number: int) -> str:
    for limit, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return str(number)


def sized(number: int) -> str:
    """Return a size in bytes as plans say it, in powers of 1000; gigabytes from 0.1 on."""
    for limit, unit in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")):
        if number >= limit * (0.1 if unit == "GB" else 1):
            return f"{number / limit:.1f} {unit}"
    return f"{number} B"
