"""Which requests get in: sequences are counted from admission until the engine lets go of them."""

from dataclasses import dataclass

from mooring.errors import InvalidInput, ServerBusy


@dataclass(frozen=True, slots=True)
class Activity:
    """Sequences admitted now, and how many there may be."""

    sequences: int
    limit: int


class Admission:
    """Counts sequences against a limit. Used from one event loop only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted = 0

    @property
    def activity(self) -> Activity:
        """What is admitted now."""
        return Activity(self._admitted, self._limit)

    def admit(self, places: int) -> "Permit":
        """Take `places`; raise `ServerBusy`, or `InvalidInput` if there never are so many."""
        if places > self._limit:
            raise InvalidInput(
                f"One call may ask for at most {self._limit} sequences, prompts times `n`. "
                f"Given: {places}. Send several calls."
            )
        if self._admitted + places > self._limit:
            raise ServerBusy(
                f"The server holds at most {self._limit} sequences at once. Held: "
                f"{self._admitted}, asked for {places} more. Try again shortly."
            )
        self._admitted += places
        return Permit(self, places)

    def give_back(self, places: int) -> None:
        """Free `places`; only a permit calls this."""
        self._admitted -= places


class Permit:
    """The places of one call, used again and again by its sequences until it is closed."""

    def __init__(self, admission: Admission, places: int) -> None:
        self._admission = admission
        self._spare = places
        self._closed = False

    def take(self, places: int) -> None:
        """Use places for sequences that go to the engine now."""
        self._spare -= places

    def release(self) -> None:
        """Free the place of one sequence that the engine has let go of."""
        if self._closed:
            self._admission.give_back(1)
        else:
            self._spare += 1

    def close(self) -> None:
        """Give back what is not in use, and the rest as the engine lets go of it."""
        if not self._closed:
            self._closed = True
            self._admission.give_back(self._spare)
            self._spare = 0
