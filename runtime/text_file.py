"""Small files of text that people write: configurations and keys."""

from pathlib import Path

from runtime.errors import UserError

# Real ones have a few hundred lines.
MAX_BYTES = 2**20


def read_text(path: Path, what: str, encoding: str, wrong: type[UserError]) -> str:
    """The text of a file that should be `what`, in words; at most 1 MiB is read.

    Raises:
        UserError: of the kind `wrong`, when the file can't be read, is larger, or is no text in the `encoding`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise wrong(f"cannot read {path}, {what}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise wrong(f"{path} is larger than {MAX_BYTES} bytes: that is not {what}")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise wrong(f"{path} is not {encoding} text: {error.reason} at byte {error.start}") from None
