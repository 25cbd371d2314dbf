"""What can go wrong for a reason that the user can mend.

Every error carries one sentence and, where there is something to do, a help text. They are click exceptions, so that a
command prints them and exits with 1, and never shows a traceback.
"""

from typing import IO, Any

import click


class UserError(click.ClickException):
    """An error whose message is for the user: ``message`` says what is wrong, ``help`` what to do about it."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints ``error: …`` and, below it, the help, to stderr or to `file`."""
        click.echo(f"{click.style('error', fg='red', bold=True)}: {self.message}", file=file, err=file is None)
        if self.help:
            click.echo(f"  {click.style('=', fg='blue')} help: {self.help}", file=file, err=file is None)


class ModelError(UserError):
    """A model file that cannot be loaded, or whose metadata is broken."""


class DeviceError(UserError):
    """A device that was asked for and does not work here."""


class InputError(UserError):
    """Data that the model cannot take: a wrong name, shape or type, or a file that holds no such data."""


class AddressError(UserError):
    """A host or port that the server cannot listen on."""


class RunError(UserError):
    """The model could not be run for want of memory, or because the device failed: no fault of the input."""


class OutputError(UserError):
    """A file that results cannot be written to."""


class SecretError(UserError):
    """A file of keys, or a certificate with its key, that cannot be used."""


class SetupError(UserError):
    """Something that was asked for needs a package that is not installed."""
