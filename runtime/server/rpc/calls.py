"""Every call but inference: what is asked, and the fields of its answer."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runtime.protocol.config_reply import config_of
from runtime.protocol.description import index, model_metadata, model_statistics, server_metadata
from runtime.protocol.messages import Message
from runtime.protocol.parameters import check_unload, load_config
from runtime.server.rpc.request import values_of
from runtime.serving.refused import Reason, Refused
from runtime.serving.repository import Repository

Fields = Mapping[str, Any]
Call = Callable[[Message], Awaitable[Fields]]


class Calls:
    """The calls to a repository's server. Each takes a request's message and gives the fields of its answer."""

    def __init__(self, repository: Repository) -> None:
        """The calls to the models of `repository`."""
        self._repository = repository

    def by_name(self) -> dict[str, Call]:
        """The calls, by the names that the service has for them."""
        shared_memory = {
            f"{kind}SharedMemory{act}": call
            for kind in ("System", "Cuda")
            for act, call in (
                ("Status", self._regions),
                ("Register", _refusal("there is no shared memory here: send tensors in the request")),
                ("Unregister", _nothing),
            )
        }
        return {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
            "TraceSetting": _refusal("there are no trace settings here"),
            "LogSettings": _refusal("the server's log is set up where it is started"),
            **shared_memory,
        }

    async def _server_live(self, request: Message) -> Fields:
        return {"live": True}

    async def _server_ready(self, request: Message) -> Fields:
        return {"ready": self._repository.ready()}

    async def _model_ready(self, request: Message) -> Fields:
        try:
            self._repository.model(request.name, request.version)
        except Refused as refused:
            if refused.reason is not Reason.UNAVAILABLE:
                raise
            return {"ready": False}
        return {"ready": True}

    async def _server_metadata(self, request: Message) -> Fields:
        return server_metadata()

    async def _model_metadata(self, request: Message) -> Fields:
        model = self._repository.model(request.name, request.version)
        return model_metadata(model, self._repository.versions(model.name))

    async def _model_config(self, request: Message) -> Fields:
        return {"config": config_of(self._repository.model(request.name, request.version))}

    async def _model_statistics(self, request: Message) -> Fields:
        """The statistics of one version, of all versions of a model, or of all models."""
        models = self._repository.models()
        if request.version:
            models = [self._repository.model(request.name, request.version)]
        elif request.name:
            name = self._repository.model(request.name).name
            models = [model for model in models if model.name == name]
        return model_statistics(models)

    async def _repository_index(self, request: Message) -> Fields:
        _only_repository(request)
        return {"models": index(self._repository.index(), request.ready)}

    async def _load(self, request: Message) -> Fields:
        _only_repository(request)
        await self._repository.load(request.model_name, load_config(values_of(request.parameters)))
        return {}

    async def _unload(self, request: Message) -> Fields:
        _only_repository(request)
        check_unload(values_of(request.parameters))
        await self._repository.unload(request.model_name)
        return {}

    async def _regions(self, request: Message) -> Fields:
        """What is registered, which is nothing."""
        if request.name:
            raise Refused(Reason.NOT_FOUND, f"no region of shared memory is registered as '{request.name}'")
        return {}


async def _nothing(request: Message) -> Fields:
    """Nothing is ever registered, so that whatever is to be unregistered is so already."""
    return {}


def _refusal(message: str) -> Call:
    async def refuse(request: Message) -> Fields:
        raise Refused(Reason.UNSUPPORTED, message)

    return refuse


def _only_repository(request: Message) -> None:
    if request.repository_name:
        raise Refused(Reason.NOT_FOUND, f"there is no repository '{request.repository_name}'; the only one has no name")
