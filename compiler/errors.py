"""What can go wrong between a valid spec and its results, for people: a message and the mend."""

from __future__ import annotations


class CompilerError(Exception):
    """A failure that the user can do something about.

    Attributes:
        message: one sentence.
        help: the mend.
    """

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message, self.help = message, help
