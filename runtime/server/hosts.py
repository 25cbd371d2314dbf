"""By which names a server may be asked that trusts whoever is on its machine.

A page that somebody visits there may have its own name lead to 127.0.0.1 once it is loaded (DNS rebinding). The browser
then takes the server for the page's own, and sends and reads for it; only the Host header still has the page's name.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from runtime.server.keys import Keys
from runtime.serving.refused import Reason, Refused

# Names that lead nowhere but to this machine, whoever owns the page.
LOOPBACK = r"localhost|127(?:\.\d{1,3}){1,3}|\[::1\]"
# No name is longer, with its port (RFC 1035). Answers about names stay in memory.
LONGEST_HOST = 262


class Hosts:
    """Checks the names that a server is asked by, where it has no keys and is for this machine alone."""

    def __init__(self, keys: Keys, host: str) -> None:
        """Names of the loopback interface may ask, and `host`, the address that the operator has named."""
        named = re.escape(f"[{host}]" if ":" in host else host)
        self._known = re.compile(rf"(?:{LOOPBACK}|{named})(?::\d*)?".encode(), re.IGNORECASE)
        self._is_needed = keys.is_open and not keys.is_needed
        self._is_known = lru_cache(256)(lambda host: self._known.fullmatch(host) is not None)

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises Refused where a Host header, of those with names in lower case, has a name that may not ask."""
        if self._is_needed:
            for name, value in headers:
                if name == b"host" and (len(value) > LONGEST_HOST or not self._is_known(value)):
                    raise Refused(Reason.FORBIDDEN, _refusal(value))


def _refusal(host: bytes) -> str:
    return (
        f"'{host.decode('latin-1')}' may not be asked for: a server for this machine alone and without keys answers to "
        "localhost, 127.0.0.1 and [::1], lest pages of others reach it by names of theirs; start it with --keys, or "
        "with a --host of the network, to have it asked by other names"
    )
