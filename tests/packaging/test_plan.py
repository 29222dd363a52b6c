import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import InvalidInput, NotEnoughMemory, NotEnoughSpace
from mooring.machine import Gpu, Machine, read_machine
from mooring.packaging.inspection import inspect_source
from mooring.packaging.plan import (
    LIBRARY_BYTES,
    Converted,
    cpu_precision,
    expected_conversion,
    make_plan,
    require_fit,
    require_room_to_convert,
    weight_bytes,
    with_conversions,
)
from mooring.spec.facts import ModelFacts
from mooring.spec.model_spec import ModelSpec

GB = 10**9
SEVEN_BILLION = ModelFacts(
    architecture="LlamaForCausalLM",
    model_type="llama",
    parameters=7 * GB,
    weight_bytes=14 * GB,
    stored_dtypes={"BF16": 7 * GB},
    layers=32,
    vocabulary_size=32000,
    context_length=4096,
    cache_values_per_token=262_144,
    own_code=False,
    end_token_ids=(2,),
)
OVERHEAD_BFLOAT16 = LIBRARY_BYTES + 1_400_000_000
CACHE_BFLOAT16 = 524_288


def machine(memory: int, *gpu_memory: int, bfloat16: bool = True) -> Machine:
    gpus = tuple(Gpu("GPU", free, free) for free in gpu_memory)
    return Machine(memory, memory, 100 * GB, gpus, bfloat16)


def facts(**changes: Any) -> ModelFacts:
    return SEVEN_BILLION.model_copy(update=changes)


def test_what_is_needed_is_the_sum_of_its_parts() -> None:
    plan = make_plan(SEVEN_BILLION, machine(64 * GB))
    assert (plan.device, plan.precision, plan.fits) == ("cpu", "bfloat16", True)
    assert (plan.context_length, plan.concurrency) == (4096, 8)
    assert plan.weight_bytes == {
        "float32": 28 * GB,
        "bfloat16": 14 * GB,
        "float16": 14 * GB,
        "int8": 7 * GB,
        "int4": 3_500_000_000,
    }
    assert plan.cache_bytes_per_token == CACHE_BFLOAT16
    assert plan.cache_bytes == CACHE_BFLOAT16 * 4096 * 8
    assert plan.overhead_bytes == OVERHEAD_BFLOAT16
    assert plan.needed_bytes == 14 * GB + plan.cache_bytes + OVERHEAD_BFLOAT16
    assert plan.download_bytes == 14 * GB
    assert (plan.largest_context, plan.largest_concurrency) == (4096, 8)
    assert (plan.smaller_precision, plan.missing_bytes) == (None, 0)
    require_fit(plan)


def test_second_weights_are_counted_where_they_are_made() -> None:
    model = facts(linear_values=6 * GB)
    fast = replace(machine(150 * GB), faster_in_float32=True)

    def extra(machine: Machine, **options: Any) -> int:
        return make_plan(model, machine, **options).needed_bytes - (
            make_plan(model, replace(machine, faster_in_float32=False), **options).needed_bytes
        )

    assert extra(fast) == make_plan(model, fast).overhead_bytes - OVERHEAD_BFLOAT16 == 24 * GB
    assert extra(fast, dtype="float16") == 24 * GB
    assert extra(fast, dtype="float32") == 0
    assert extra(fast, converted=Converted("int8", 7 * GB)) == 0
    assert extra(replace(fast, gpus=(Gpu("GPU", 80 * GB, 80 * GB),))) == 0
    # A quarter of what the weights and libraries leave, and no more than the cache leaves.
    just = 14 * GB + LIBRARY_BYTES + 96 * GB
    assert extra(replace(fast, memory_available=just)) == 24 * GB
    assert extra(replace(fast, memory_available=just - 1)) == 0
    full = make_plan(model, fast, concurrency=60)
    assert full.needed_bytes + 24 * GB > 150 * GB
    assert extra(fast, concurrency=60) == 0
    assert full.fits


def test_the_line_says_it_all() -> None:
    tiny = facts(
        model_type="mpt",
        parameters=1_500_000,
        stored_dtypes={"BF16": 1_500_000},
        cache_values_per_token=3072,
        context_length=256,
    )
    assert make_plan(tiny, machine(23_100_000_000)).line() == (
        "mpt 1.5 M parameters, 3.0 MB in bfloat16, cache 6.1 kB/token; "
        "needs 0.5 GB of 23.1 GB free RAM for 8 x 256 tokens: fits"
    )


def test_a_cpu_without_bfloat16_computes_in_float32() -> None:
    old = machine(64 * GB, bfloat16=False)
    assert cpu_precision(SEVEN_BILLION, old) == "float32"
    plan = make_plan(SEVEN_BILLION, old)
    assert plan.precision == "float32"
    assert plan.cache_bytes_per_token == 2 * CACHE_BFLOAT16
    assert cpu_precision(facts(stored_dtypes={"F32": 7 * GB}), machine(1)) == "float32"
    assert cpu_precision(facts(stored_dtypes={"F16": 7 * GB}), machine(1)) == "bfloat16"


@pytest.mark.parametrize(
    ("stored", "precision"),
    [("BF16", "bfloat16"), ("F16", "float16"), ("F32", "float32"), ("I32", "bfloat16")],
)
def test_a_gpu_computes_in_what_is_stored(stored: str, precision: str) -> None:
    plan = make_plan(facts(stored_dtypes={stored: GB}), machine(GB, 80 * GB))
    assert (plan.device, plan.precision) == ("cuda", precision)


def test_a_precision_that_is_asked_for_is_used() -> None:
    plan = make_plan(SEVEN_BILLION, machine(64 * GB), dtype="float32")
    assert plan.precision == "float32"
    assert plan.needed_bytes > 28 * GB


def test_packed_weights_stay_as_they_are() -> None:
    packed = facts(stored_dtypes={"I32": 1000, "F8_E4M3": 100, "F4": 10, "F16": 10})
    assert weight_bytes(packed, "bfloat16") == 4000 + 100 + 5 + 20
    assert weight_bytes(packed, "float32") == 4000 + 100 + 5 + 40


def test_weights_beyond_one_gpu_use_all() -> None:
    assert make_plan(SEVEN_BILLION, machine(GB, 24 * GB, 24 * GB)).available_bytes == 24 * GB
    assert make_plan(SEVEN_BILLION, machine(GB, 12 * GB, 12 * GB)).available_bytes == 24 * GB


def test_what_would_fit_does_fit_and_no_more() -> None:
    small = machine(24 * GB)
    plan = make_plan(SEVEN_BILLION, small)
    assert not plan.fits
    assert plan.missing_bytes == plan.needed_bytes - 24 * GB
    context, concurrency = plan.largest_context, plan.largest_concurrency
    assert 0 < context < 4096
    assert 0 < concurrency < 8
    assert make_plan(SEVEN_BILLION, small, context_length=context).fits
    assert not make_plan(SEVEN_BILLION, small, context_length=context + 1).fits
    assert make_plan(SEVEN_BILLION, small, concurrency=concurrency).fits
    assert not make_plan(SEVEN_BILLION, small, concurrency=concurrency + 1).fits
    expected = f"would fit: {concurrency} at a time or a context of {context} tokens"
    assert plan.line().endswith(f"does not fit; 9.1 GB missing; {expected}")


def test_a_smaller_precision_is_offered_where_it_fits() -> None:
    wide = facts(stored_dtypes={"F32": 7 * GB}, weight_bytes=28 * GB)
    plan = make_plan(wide, machine(24 * GB), concurrency=1)
    assert (plan.largest_context, plan.largest_concurrency) == (0, 0)
    assert plan.smaller_precision == "bfloat16"
    assert make_plan(wide, machine(24 * GB), dtype="bfloat16", concurrency=1).fits


def test_where_nothing_fits_the_missing_memory_is_named() -> None:
    plan = make_plan(SEVEN_BILLION, machine(8 * GB), concurrency=1)
    assert plan.advice() == "10.0 GB missing"
    with pytest.raises(NotEnoughMemory) as caught:
        require_fit(plan)
    assert caught.value.message == (
        "The model must fit into memory: 8.0 GB are free on cpu. Needed: 18.0 GB for weights in "
        "bfloat16, 1 x 4096 tokens and libraries; 10.0 GB missing."
    )


def test_a_model_without_a_growing_cache() -> None:
    mamba = facts(cache_values_per_token=None)
    plan = make_plan(mamba, machine(24 * GB), concurrency=500)
    assert (plan.fits, plan.cache_bytes) == (True, 0)
    assert (plan.largest_context, plan.largest_concurrency) == (4096, 500)
    assert "no cache per token" in plan.line()


@pytest.mark.parametrize("context", [0, -1, 4097])
def test_a_context_the_model_does_not_have(context: int) -> None:
    with pytest.raises(InvalidInput, match=f"must be 1 to 4096 tokens.*Given: {context}"):
        make_plan(SEVEN_BILLION, machine(GB), context_length=context)


def test_a_model_that_does_not_state_its_context() -> None:
    unstated = facts(context_length=None)
    assert make_plan(unstated, machine(GB)).context_length == 8192
    assert make_plan(unstated, machine(GB), context_length=100_000).context_length == 100_000


def test_at_least_one_at_a_time() -> None:
    with pytest.raises(InvalidInput, match="`concurrency` must be >= 1"):
        make_plan(SEVEN_BILLION, machine(GB), concurrency=0)


def test_a_plan_is_plain_json() -> None:
    values = make_plan(SEVEN_BILLION, machine(GB)).to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["weight_bytes"]["int4"] == 3_500_000_000


def test_a_real_model_on_this_machine(llama: Path) -> None:
    found = inspect_source(ModelSpec(source=str(llama)))
    plan = make_plan(found, read_machine(), dtype="float32")
    assert plan.fits
    assert plan.weight_bytes["float32"] == found.weight_bytes
    assert plan.cache_bytes == 64 * 4 * 256 * 8


def test_a_conversion_is_what_runs_and_what_it_takes_to_make_is_counted() -> None:
    expected = expected_conversion(SEVEN_BILLION, ("int4", "int8"))
    assert expected == Converted("int8", weight_bytes(SEVEN_BILLION, "int8"))
    plan = make_plan(SEVEN_BILLION, machine(64 * GB), converted=Converted("int8", 123))
    assert (plan.precision, plan.weight_bytes["int8"]) == ("int8", 123)
    assert plan.cache_bytes_per_token == (SEVEN_BILLION.cache_values_per_token or 0) * 10 // 8
    both = with_conversions(plan, SEVEN_BILLION, ("int8", "int4"))
    full = weight_bytes(SEVEN_BILLION, "bfloat16")
    assert both.converting_disk_bytes == full + full // 2 + full // 4
    assert both.converting_memory_bytes == int(full * 1.2) + 10**9
    assert "converting needs" in both.line()
    assert with_conversions(plan, SEVEN_BILLION, ("fp16",)).converting_disk_bytes == full


def test_what_cannot_be_converted_here_is_refused_before_it_begins() -> None:
    plan = with_conversions(make_plan(SEVEN_BILLION, machine(64 * GB)), SEVEN_BILLION, ("int8",))
    require_room_to_convert(plan, machine(64 * GB))
    with pytest.raises(NotEnoughMemory, match=r"Converting needs about .* of memory\. Free: "):
        require_room_to_convert(plan, machine(GB))
    with pytest.raises(NotEnoughSpace, match=r"Converting needs about .* of disk"):
        require_room_to_convert(plan, replace(machine(64 * GB), disk_free=1000))
