"""A Ray Serve application of our own server: a Python file, the configuration that scales it, and its models."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from runtime.deploy.models import Deployed
from runtime.deploy.scale import Scale
from runtime.deploy.triton import repository
from runtime.deploy.written import Content

APPLICATION = "netspec_application.py"
# A replica that doesn't end on its own is killed after so long.
DRAIN_SECONDS = 30.0
HEALTH_SECONDS = 5.0


def application(models: Sequence[Deployed], scale: Scale, folder: Path) -> dict[str, Content]:
    """The files of the application, by path.

    Args:
        models: what every replica serves.
        scale: how many replicas there are, and how much of the cluster each may take.
        folder: where the files will be, on every machine of the cluster.
    """
    configuration = _configuration(scale, models[0].model.options.max_queue, folder.absolute())
    written: dict[str, Content] = {
        "serve.yaml": yaml.safe_dump(configuration, sort_keys=False).encode(),
        APPLICATION: files("runtime.deploy").joinpath("files", APPLICATION).read_bytes(),
    }
    for path, content in repository(models, "netspec", scale.gpu).items():
        written[f"models/{path}"] = content
    return written


def _configuration(scale: Scale, max_queue: int, folder: Path) -> dict[str, Any]:
    """Ray Serve's configuration, as `ray.serve.schema.ServeDeploySchema` has it."""
    actor: dict[str, Any] = {"num_cpus": scale.cpus} | ({"num_gpus": 1} if scale.gpu else {})
    models: dict[str, Any] = {
        "name": "models",
        "max_ongoing_requests": scale.concurrency,
        "max_queued_requests": max_queue,
        "graceful_shutdown_timeout_s": DRAIN_SECONDS,
        "health_check_period_s": HEALTH_SECONDS,
        "health_check_timeout_s": HEALTH_SECONDS * 2,
        "ray_actor_options": actor,
        "user_config": {"repository": str(folder / "models")},
        **_replicas(scale),
    }
    relay = {"name": "relay", "num_replicas": 1, "max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0}}
    return {
        "http_options": {"host": "127.0.0.1", "port": 8000},
        "applications": [
            {
                "name": "netspec",
                "route_prefix": "/",
                "logging_config": {"enable_access_log": False},
                "import_path": "netspec_application:application",
                "runtime_env": {"env_vars": {"PYTHONPATH": f"{folder}:${{PYTHONPATH}}", "ORT_DISABLE_TELEMETRY": "1"}},
                "deployments": [relay, models],
            }
        ],
    }


def _replicas(scale: Scale) -> dict[str, Any]:
    if scale.max_replicas == scale.replicas:
        return {"num_replicas": scale.replicas}
    bounds = {"min_replicas": scale.replicas, "max_replicas": scale.max_replicas}
    return {"autoscaling_config": {**bounds, "target_ongoing_requests": max(1, scale.concurrency // 2)}}
