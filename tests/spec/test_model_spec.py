"""ModelSpec states what is to be deployed, and refuses what it does not know."""

import pytest
from pydantic import ValidationError

from mooring import ModelSpec
from mooring.errors import InvalidParameter


def test_defaults_are_checked_when_stated() -> None:
    spec = ModelSpec(source="demo", defaults={"temperature": 1, "stop": "x"})
    assert spec.defaults == {"temperature": 1.0, "stop": ["x"]}
    with pytest.raises(InvalidParameter, match="Unknown parameter `heat`"):
        ModelSpec(source="demo", defaults={"heat": 1})
    with pytest.raises(InvalidParameter, match=r"`top_p` must be > 0 and <= 1. Given: 2"):
        ModelSpec(source="demo", defaults={"top_p": 2})


@pytest.mark.parametrize(
    "values",
    [{"source": ""}, {"source": "x", "dtype": "int7"}, {"source": "x", "unknown": 1}, {}],
)
def test_what_it_does_not_know_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ModelSpec.model_validate(values)


def test_it_cannot_change() -> None:
    with pytest.raises(ValidationError):
        ModelSpec(source="x").source = "y"


def test_nothing_is_trusted_by_default() -> None:
    assert ModelSpec(source="x").trust_remote_code is False
