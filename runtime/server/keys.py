"""API keys: who may ask, and who may load and unload models.

Keys stand in files or environment variables, one ``NAME:KEY`` a line. Only their digests are kept in memory, and every
one of them is compared with, in constant time, so that the time of a refusal tells nothing about a key.
"""

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import SecretError
from runtime.server.stamp import Stamp, stamp
from runtime.serving.refused import Reason, Refused
from runtime.text_file import read_text

log = logging.getLogger(__name__)

KEYS_VARIABLE = "NETSPEC_API_KEYS"
ADMIN_VARIABLE = "NETSPEC_ADMIN_KEYS"
# A shorter key can be guessed.
SHORTEST_KEY = 16
NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
KEY = re.compile(r"[!-~]+")  # what stands in a header unchanged

Digests = Mapping[bytes, str]


def digest(key: str) -> bytes:
    """The SHA-256 of a key."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def read_keys(text: str, where: str, separator: str = "\n") -> dict[bytes, str]:
    """The names by digest of the keys in `text`, a ``NAME:KEY`` in each of its parts; ``#`` begins a comment.

    Raises:
        SecretError: a part is no key, or a name or key is there twice; the message never shows a key.
    """
    keys: dict[bytes, str] = {}
    for number, part in enumerate(text.split(separator), 1):
        line = part.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, key = line.partition(":")
        at = f"{where}, {'line' if separator == chr(10) else 'entry'} {number}"
        if not colon or not NAME.fullmatch(name):
            raise SecretError(f"{at}: expected NAME:KEY", help="a name has letters, digits, and . _ @ -; at most 64")
        if not KEY.fullmatch(key) or len(key) < SHORTEST_KEY:
            raise SecretError(
                f"{at}: the key of '{name}' is not at least {SHORTEST_KEY} printable ASCII characters without spaces",
                help=f"draw one: python -c 'import secrets; print(\"{name}:\" + secrets.token_urlsafe(32))'",
            )
        if name in keys.values() or digest(key) in keys:
            raise SecretError(f"{at}: '{name}' or its key is there already")
        keys[digest(key)] = name
    if not keys:
        raise SecretError(f"{where} holds no key", help="a key is a line NAME:KEY")
    return keys


@dataclass
class Ring:
    """The keys of one kind, of a file or an environment variable; a file is read again when it changes."""

    path: Path | None = None
    variable: str | None = None
    keys: Digests = field(default_factory=dict)
    _stamp: Stamp | None = None

    def load(self) -> None:
        """Reads the keys; raises SecretError when the file can't be read or is wrong."""
        if self.path is not None:
            self._stamp = stamp(self.path)
            self.keys = _read(self.path)
        elif self.variable is not None:
            self.keys = read_keys(os.environ[self.variable].replace("\n", ","), f"${self.variable}", ",")

    def refresh(self) -> None:
        """Reads a file that has changed. One that can't be read or is wrong is told, and the old keys stay."""
        if self.path is None or (found := stamp(self.path)) == self._stamp:
            return
        self._stamp = found
        try:
            if found is None:
                raise SecretError(f"{self.path} is not there any more, or is no file")
            self.keys = _read(self.path)
        except SecretError as error:
            log.error("the keys stay as they were: %s", error.message)
        else:
            log.info("read %d keys from %s", len(self.keys), self.path)

    def name_of(self, key: bytes) -> str | None:
        """Whose key has this digest; None for nobody's."""
        found = None
        for known, name in self.keys.items():
            if hmac.compare_digest(known, key):
                found = name
        return found


def ring(path: Path | None, variable: str) -> Ring:
    """The keys of a file or else of an environment variable; none where neither is there.

    Raises:
        SecretError: the file can't be read, or it or the variable is wrong.
    """
    found = Ring(path, variable if path is None and variable in os.environ else None)
    found.load()
    return found


def _read(path: Path) -> dict[bytes, str]:
    return read_keys(read_text(path, "a file of keys", "ASCII", SecretError), str(path))


@dataclass(frozen=True)
class Keys:
    """Who may do what.

    Where there are no keys of users, everyone may ask. Where there are no keys of administrators, `is_open` says
    whether everyone may load and unload models: a server without any keys that this machine alone can reach is.
    """

    users: Ring
    admins: Ring
    is_open: bool

    @property
    def is_needed(self) -> bool:
        """Whether asking takes a key."""
        return bool(self.users.keys)

    @property
    def is_any(self) -> bool:
        """Whether anybody has a key."""
        return bool(self.users.keys or self.admins.keys)

    def check(self, given: str | None, is_admin_call: bool) -> str | None:
        """The name of who asks with the key `given`, None for nobody in particular; raises Refused."""
        if not self.users.keys and not is_admin_call:
            return None
        if is_admin_call and not self.admins.keys:
            self._check_open()
            return None
        if given is None:
            message = "a key is needed: send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            raise Refused(Reason.UNAUTHENTICATED, message)
        key = digest(given)
        user, admin = self.users.name_of(key), self.admins.name_of(key)
        if is_admin_call and admin is None and user is not None:
            raise Refused(Reason.FORBIDDEN, f"the key of '{user}' may not load or unload models")
        if user is None and admin is None:
            raise Refused(Reason.UNAUTHENTICATED, "nobody has this key")
        return admin or user

    def _check_open(self) -> None:
        if not self.is_open or self.users.keys:
            message = "models are not loaded or unloaded here: the server was started without keys for that"
            raise Refused(Reason.FORBIDDEN, message)

    def refresh(self) -> None:
        """Reads the files that have changed."""
        self.users.refresh()
        self.admins.refresh()
