"""A request as it arrives: its message, or why there is none, and its size."""

from collections.abc import Callable
from dataclasses import dataclass

from runtime.protocol.messages import Message, message_class
from runtime.protocol.tensors import invalid
from runtime.serving.refused import Refused


@dataclass(frozen=True, slots=True)
class Received:
    """What a client sent.

    Attributes:
        message: the message that it is; None where it is none.
        size: its bytes.
        refused: why there is no message.
    """

    message: Message | None
    size: int
    refused: Refused | None = None

    @property
    def model_name(self) -> str:
        """The model that it is about, empty where it is about none."""
        return str(getattr(self.message, "model_name", "") or getattr(self.message, "name", ""))

    def read(self) -> Message:
        """The message.

        Raises:
            Refused: it is none.
        """
        if self.refused is not None:
            raise self.refused
        return self.message


def reader(name: str) -> Callable[[bytes], Received]:
    """Reads requests that are to be messages of this full name; never fails, so that each call has its own answer."""
    kind = message_class(name)

    def read(data: bytes) -> Received:
        try:
            return Received(kind.FromString(data), len(data))
        except Exception:  # protobuf has an error of its own, but not for everything
            return Received(None, len(data), invalid(f"the request is not a message {name}"))

    return read
