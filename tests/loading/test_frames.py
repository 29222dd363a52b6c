"""Every form that callers of `predict` use becomes the same rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mooring.errors import InvalidPrompt
from mooring.loading.frames import rows_of

TURN = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        (("a",), ["a"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (pd.Series(["a", "b"], index=[4, 5]), ["a", "b"]),
        ({"prompt": "a"}, [{"prompt": "a"}]),
        ({"prompt": ["a", "b"]}, [{"prompt": "a"}, {"prompt": "b"}]),
        ({"prompt": np.array("a")}, [{"prompt": "a"}]),
        ({"messages": TURN}, [{"messages": TURN}]),
        ({"messages": [TURN, TURN]}, [{"messages": TURN}, {"messages": TURN}]),
        ({"messages": np.array([TURN, TURN])}, [{"messages": TURN}, {"messages": TURN}]),
        (pd.DataFrame({"prompt": ["a", "b"]}, index=[9, 9]), [{"prompt": "a"}, {"prompt": "b"}]),
        (pd.DataFrame(["a", "b"]), ["a", "b"]),
        (pd.DataFrame({"prompt": []}), []),
        ([], []),
    ],
)
def test_rows(data: Any, rows: list[Any]) -> None:
    assert rows_of(data) == rows


@pytest.mark.parametrize("data", [5, None, 1.5, {1, 2}, b"a"])
def test_other_things_are_refused(data: Any) -> None:
    with pytest.raises(InvalidPrompt, match=f"Given: {type(data).__name__}"):
        rows_of(data)


def test_ragged_columns_are_refused() -> None:
    with pytest.raises(InvalidPrompt, match="prompt has 2, messages has 1"):
        rows_of({"prompt": ["a", "b"], "messages": [TURN]})
