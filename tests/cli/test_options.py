"""Texts of the command line become values, or say what is wrong with them."""

import pytest
from typer import BadParameter

from mooring.cli.options import byte_count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000", 1000),
        ("2GiB", 2 * 2**30),
        ("1.5 gb", 1_500_000_000),
        ("500MB", 500_000_000),
        ("64kib", 65_536),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(text: str, expected: int) -> None:
    assert byte_count(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1", "1e9", "2TiB", "2I", "nan", "GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="a size is bytes, or a number and"):
        byte_count(text)
