"""Bodies as gzip and deflate, both ways."""

import zlib
from collections.abc import Mapping

from runtime.protocol.elements import Buffer
from runtime.protocol.tensors import invalid
from runtime.serving.refused import Reason, Refused

# What zlib calls the formats by the names that HTTP has for them; HTTP's deflate has zlib's own header.
ENCODINGS: Mapping[bytes, int] = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}

# Smaller answers fit into one packet anyway.
WORTH_COMPRESSING = 1024
# Numbers hardly shrink further at the higher levels, which take up to three times as long.
LEVEL = 1


def decompress(packed: Buffer, encoding: bytes, most: int) -> bytes:
    """A body of at most `most` bytes from `packed`, in one of `ENCODINGS`.

    Raises:
        Refused: TOO_LARGE where there is more in it, INVALID where it's damaged, cut off, or followed by something.
    """
    name = encoding.decode()
    parts: list[bytes] = []
    room = most + 1
    while True:
        stream = zlib.decompressobj(ENCODINGS[encoding])
        try:
            parts.append(stream.decompress(packed, room))
        except zlib.error:
            raise invalid(f"the body is not {name}, as Content-Encoding says, or it is damaged") from None
        room -= len(parts[-1])
        if not room:
            raise Refused(Reason.TOO_LARGE, f"the body is larger than {most} bytes when it is decompressed")
        if not stream.eof:
            raise invalid(f"the body ends within its {name} data")
        packed = stream.unused_data
        if not packed:
            return b"".join(parts)
        if encoding != b"gzip":  # of which several may follow one another
            raise invalid(f"the body goes on behind its {name} data")


def accepted_encoding(header: bytes | None) -> bytes | None:
    """The encoding to answer in, by the value of Accept-Encoding: the first that is known and not turned down."""
    for choice in header.lower().split(b",") if header else ():
        name, _, weight = choice.partition(b";")
        refused = weight.strip().replace(b" ", b"").rstrip(b"0") in (b"q=", b"q=0.", b"q=.")
        if name.strip() in ENCODINGS and not refused:
            return name.strip()
    return None


def compress(body: Buffer, encoding: bytes) -> bytes:
    """A body in one of `ENCODINGS`."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, ENCODINGS[encoding])
    return stream.compress(body) + stream.flush()
