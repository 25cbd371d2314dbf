"""KServe's InferenceService, as the API ``serving.kserve.io/v1beta1`` has it, and the repository that it reads.

A service of each model reads ``STORAGE/MODEL``: a model repository with that model in it.
"""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import yaml

from runtime.deploy.models import Deployed
from runtime.deploy.scale import Scale
from runtime.deploy.triton import repository
from runtime.deploy.written import Content
from runtime.errors import ModelError

PORT = 8080
# Where KServe puts what it fetches from the storage.
MOUNTED = "/mnt/models"
# A server may take as long as this to finish what it accepted, and a little longer to end.
DRAIN_SECONDS = 30

_URI = re.compile(r"[a-z][a-z0-9+.-]*://\S+")


def is_uri(storage: str) -> bool:
    """Whether this can be where KServe reads models from."""
    return _URI.fullmatch(storage) is not None


def services(models: Sequence[Deployed], scale: Scale, storage: str, image: str | None) -> dict[str, Content]:
    """The files of the services, by path: ``MODEL.yaml``, and in the folder ``MODEL`` what is to be put in the storage.

    Args:
        models: one service is written of each.
        scale: how much of the cluster each may take.
        storage: the URI under which the folders are put.
        image: a container image with ``netspec serve``; None for KServe's own Triton.

    Raises:
        ModelError: two models would have one service.
    """
    written: dict[str, Content] = {}
    for deployed in models:
        service = _service_name(deployed.name)
        if f"{service}.yaml" in written:
            raise ModelError(f"two models would both be the service '{service}'", help="name one otherwise")
        uri = f"{storage.rstrip('/')}/{service}"
        predictor = _own_server(scale, uri, image) if image else _triton(scale, uri)
        manifest = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": service},
            "spec": {"predictor": {**_replicas(scale), **predictor}},
        }
        written[f"{service}.yaml"] = yaml.safe_dump(manifest, sort_keys=False).encode()
        for path, content in repository([deployed], "netspec" if image else "onnxruntime", scale.gpu).items():
            written[f"{service}/{path}"] = content
    return written


def _service_name(name: str) -> str:
    """The name of a model as KServe names services: a label of DNS that begins with a letter; raises ModelError."""
    service = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not service[0].isalpha():
        raise ModelError(f"the service '{service}' would not begin with a letter", help="name it with --name")
    return service


def _replicas(scale: Scale) -> dict[str, Any]:
    replicas: dict[str, Any] = {"minReplicas": scale.replicas, "maxReplicas": scale.max_replicas}
    if scale.max_replicas > scale.replicas:
        replicas |= {"scaleMetric": "concurrency", "scaleTarget": scale.concurrency}
    return replicas


def _triton(scale: Scale, uri: str) -> dict[str, Any]:
    return {
        "model": {
            "modelFormat": {"name": "onnx"},
            "protocolVersion": "v2",
            "runtime": "kserve-tritonserver",
            "storageUri": uri,
            **_container(scale),
        }
    }


def _own_server(scale: Scale, uri: str, image: str) -> dict[str, Any]:
    options = {"--repository": MOUNTED, "--host": "0.0.0.0", "--port": str(PORT), "--grpc-port": "off"}
    container = {
        "name": "kserve-container",
        "image": image,
        "command": ["netspec", "serve", *chain.from_iterable(options.items())],
        "env": [{"name": "STORAGE_URI", "value": uri}],
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        **_container(scale),
    }
    return {"terminationGracePeriodSeconds": DRAIN_SECONDS + 10, "containers": [container]}


def _container(scale: Scale) -> dict[str, Any]:
    """What a container may use, and where Kubernetes asks after it: both servers speak the same protocol."""
    resources = {"cpu": str(scale.cpus), "memory": scale.memory} | ({"nvidia.com/gpu": "1"} if scale.gpu else {})
    return {
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "readinessProbe": {**_probe("ready"), "failureThreshold": 3},
        "livenessProbe": {**_probe("live"), "failureThreshold": 6},
    }


def _probe(state: str) -> dict[str, Any]:
    return {"httpGet": {"path": f"/v2/health/{state}", "port": PORT}, "periodSeconds": 5, "timeoutSeconds": 2}
