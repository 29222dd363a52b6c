"""How long work tells a person where it is; the command line draws it, a library stays silent."""

from typing import Protocol


class Watcher(Protocol):
    """Sees the stages of long work."""

    show_downloads: bool

    def stage(self, text: str, total_bytes: int | None = None) -> None:
        """A new stage begins; `total_bytes` is its size where known."""

    def advance(self, count: int) -> None:
        """The stage has moved on by `count` bytes."""

    def note(self, text: str) -> None:
        """Something worth a line of its own."""


class Silent:
    """Shows nothing."""

    show_downloads = False

    def stage(self, text: str, total_bytes: int | None = None) -> None:
        """Ignore the stage."""

    def advance(self, count: int) -> None:
        """Ignore the progress."""

    def note(self, text: str) -> None:
        """Ignore the note."""
