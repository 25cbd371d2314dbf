"""Everything that the page at ``/`` consists of."""

from starlette.routing import Route

from runtime.server.page.files import file_routes
from runtime.server.page.status import MayAdminister, status_route
from runtime.serving.repository import Repository


def page_routes(repository: Repository, may_administer: MayAdminister) -> list[Route]:
    """The page and its files, which anybody may see, and the status below ``/v1/``.

    Args:
        repository: the models.
        may_administer: whether who sent a request may load and unload models; the page offers it to them alone.
    """
    return [*file_routes(), status_route(repository, may_administer)]
