"""The table of the benchmarks page: ratios to the tutorial's way, goals met and not met."""

from collections.abc import Sequence

from benchmarks.tables import BASELINE, Part, markdown

from mooring.bench.measuring import measure
from mooring.bench.target import Answer, Ask
from mooring.bench.work import work_list

OURS = "Mooring, transformers"


class Steady:
    """Gives a token each `seconds`, all answers at once or one after another."""

    def __init__(self, name: str, seconds: float, *, sequential: bool) -> None:
        self.name = name
        self._seconds = seconds
        self._sequential = sequential

    def open(self) -> dict[str, str]:
        return {}

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        answers, began = [], 0.0
        for ask in asks:
            pieces = [began + self._seconds * (n + 1) for n in range(ask.output_tokens)]
            answers.append(Answer(0.0, tuple(pieces), ask.output_tokens))
            began = pieces[-1] if self._sequential else 0.0
        return answers

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        return


def part(names: list[str], *targets: Steady) -> Part:
    scenarios = [s for s in work_list() if s.name in names]
    return Part("S", 2, False, ["openvino: absent"], measure(targets, scenarios, runs=1).to_dict())


def test_the_table_shows_ratios_and_what_is_left_out() -> None:
    slow, fast = Steady(BASELINE, 0.1, sequential=True), Steady(OURS, 0.05, sequential=False)
    shown = markdown([part(["single", "first token", "8 at once"], slow, fast)])
    assert (
        "| the tutorial's way | 10.0 (10.0-10.0) 1.00x | 0.10 | 10.0 (10.0-10.0) 1.00x |" in shown
    )
    assert "| Mooring, transformers | 20.0 (20.0-20.0) 2.00x | 0.05 |" in shown
    assert "Left out: openvino: absent." in shown
    assert "| S | Mooring, transformers, single: 1.4x the tutorial's way | 2.00x | met |" in shown


def test_the_speed_of_eight_stands_for_more_of_the_tutorials_way() -> None:
    alone = part(["8 at once"], Steady(BASELINE, 0.1, sequential=True))
    many = part(["32 at once"], Steady(OURS, 4.0, sequential=False))
    shown = markdown([alone, many])
    speed = 2124 / (128 * 4.0)
    wanted = f"32 at once: 6.0x the tutorial's way | {speed / 10:.2f}x | not met |"
    assert wanted in shown
    assert "8 at once: 3.0x" not in shown
