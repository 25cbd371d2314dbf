"""Routes that are made when they are first asked for, so that no start waits for what they import."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.routing import BaseRoute, Match, NoMatchFound, Router
from starlette.types import Receive, Scope, Send


class Late(BaseRoute):
    """All routes below a path."""

    def __init__(self, path: str, make: Callable[[], Sequence[BaseRoute]]) -> None:
        """The routes that `make` gives, which is called once, in a thread."""
        self.path = path
        self._make = make
        self._router: Router | None = None
        self._making = asyncio.Lock()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for the path or for what is below it."""
        path = scope.get("path", "")
        is_below = path == self.path or path.startswith(f"{self.path}/")
        return (Match.FULL if is_below and scope["type"] == "http" else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """No route here is known by a name."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has one of the routes answer."""
        async with self._making:
            if self._router is None:
                self._router = Router(await asyncio.to_thread(self._make), redirect_slashes=False)
        await self._router(scope, receive, send)
