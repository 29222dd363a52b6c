"""Golden tokens are computed in float32 where that fits, else in the precision of the weights."""

import pytest

from mooring.errors import NotEnoughMemory
from mooring.packaging.golden_precision import choose_golden_precision
from tests.packaging.test_plan import GB, SEVEN_BILLION, facts, machine


def test_float32_where_it_fits() -> None:
    chosen = choose_golden_precision(SEVEN_BILLION, machine(35 * GB))
    assert chosen.precision == "float32"
    assert chosen.reason == "its weights take 28.0 GB, and 28.0 GB are free for them"


@pytest.mark.parametrize(("stored", "precision"), [("BF16", "bfloat16"), ("F16", "float16")])
def test_the_stored_precision_where_only_that_fits(stored: str, precision: str) -> None:
    chosen = choose_golden_precision(facts(stored_dtypes={stored: 7 * GB}), machine(24 * GB))
    assert chosen.precision == precision
    assert chosen.reason == (
        "as stored, since in float32 its weights would take 28.0 GB, and 19.2 GB are free for them"
    )


def test_packed_weights_stay_as_they_are() -> None:
    packed = facts(stored_dtypes={"I32": GB, "F16": GB // 2}, weight_bytes=5 * GB)
    assert choose_golden_precision(packed, machine(8 * GB)).precision == "float32"
    assert choose_golden_precision(packed, machine(7 * GB)).precision == "auto"


@pytest.mark.parametrize("stored", ["BF16", "F32"])
def test_refused_where_nothing_fits(stored: str) -> None:
    size = 7 * GB * (4 if stored == "F32" else 2)
    model = facts(stored_dtypes={stored: 7 * GB}, weight_bytes=size)
    with pytest.raises(
        NotEnoughMemory,
        match=rf"need {size / GB:.1f} GB of memory .* 13\.6 GB\. .* --no-golden and without --opt",
    ):
        choose_golden_precision(model, machine(17 * GB))
