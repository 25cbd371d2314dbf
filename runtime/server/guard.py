"""Who may come in: names and keys are looked at before a request reaches the application."""

import re
from collections.abc import Awaitable, Iterable
from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.server.hosts import Hosts
from runtime.server.keys import Keys
from runtime.server.rest.replies import refusal as refusal_reply
from runtime.serving.refused import Reason, Refused

# Probes have no keys, and the page asks for one itself.
OPEN_PATHS = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
OPEN_PREFIX = "/page/"
MODEL_READY = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/ready")
ADMIN_PREFIX = "/v2/repository/models/"

CHALLENGE = (b"www-authenticate", b'Bearer realm="netspec"')
# Where the name of the key's owner is found in a request's scope.
KEY_NAME = "netspec.key"


def is_open_path(path: str) -> bool:
    """Whether anybody may ask for a path."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIX) or MODEL_READY.fullmatch(path) is not None


def given_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in the headers, whose names are in lower case; `Authorization` goes before `X-API-Key`."""
    key = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return token.strip().decode("latin-1")
        elif name == b"x-api-key":
            key = value.decode("latin-1")
    return key


def check_user(keys: Keys, hosts: Hosts, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises Refused where that name may not be asked for, or asking a model takes a key that is not in the headers."""
    hosts.check(headers)
    if keys.is_needed:
        keys.check(given_key(headers), False)


def may_administer(keys: Keys, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether who sent these headers may load and unload models."""
    try:
        keys.check(given_key(headers), is_admin_call=True)
    except Refused:
        return False
    return True


class Guard:
    """An ASGI application around another one, which lets through who may ask."""

    def __init__(self, app: ASGIApp, keys: Keys, hosts: Hosts | None = None) -> None:
        """Guards `app` with these keys; names that it is asked by are `hosts`, None for any."""
        self._app = app
        self._keys = keys
        self._hosts = hosts

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hands one request on, or refuses it: 401 without a key that somebody has, 403 where its owner may not."""
        try:
            self._check(scope)
        except Refused as refusal:
            return _refuse(refusal, send)
        return self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        if self._hosts is not None:
            self._hosts.check(scope["headers"])
        path = scope["path"]
        is_admin_call = path.startswith(ADMIN_PREFIX)
        if not is_admin_call and (not self._keys.is_needed or is_open_path(path)):
            return
        if is_admin_call and not self._keys.admins.keys:
            _check_origin(scope["headers"])
        scope[KEY_NAME] = self._keys.check(given_key(scope["headers"]), is_admin_call)


async def _refuse(refusal: Refused, send: Send) -> None:
    reply = refusal_reply(refusal)
    if refusal.reason is Reason.UNAUTHENTICATED:
        reply = replace(reply, headers=(*reply.headers, CHALLENGE))
    await reply.send(send)


def _check_origin(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuses what a page of somebody else makes a browser on this machine ask for."""
    found = dict(headers)
    origin = found.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != found.get(b"host"):
        raise Refused(Reason.FORBIDDEN, "pages of other origins may not load or unload models")
