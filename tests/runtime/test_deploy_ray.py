"""``netspec deploy ray``: the application runs on a cluster, and clients see nothing of a replica that dies."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton_http
import yaml
from click.testing import CliRunner
from tritonclient.utils import InferenceServerException

from runtime.cli.deploy import command
from runtime.engine_options import EngineOptions
from runtime.session import Session
from tests.runtime.engines import engines, free_ports

SERVE = Path(sys.executable).with_name("serve")
ROOT = Path(__file__).resolve().parents[2]
REPLICA = "ray::ServeReplica:netspec:models"
KEY = "a-key-of-the-clients"
CLIENTS = 4
KILLS = 2


def deploy(model: Path, folder: Path, *options: str) -> dict[str, Any]:
    """Writes the application, and returns its configuration."""
    done = CliRunner().invoke(command, ["ray", str(model), "-o", str(folder), "--name", "tiny", *options])
    assert done.exit_code == 0, done.output
    return dict(yaml.safe_load((folder / "serve.yaml").read_text()))


def models_of(configuration: dict[str, Any]) -> dict[str, Any]:
    (application,) = configuration["applications"]
    return next(one for one in application["deployments"] if one["name"] == "models")


def test_a_replica_has_a_core_for_each_thread(classifier: Path, tmp_path: Path) -> None:
    models = models_of(deploy(classifier, tmp_path / "app", "--replicas", "2", "--threads", "3", "--instances", "2"))
    assert models["num_replicas"] == 2
    assert models["ray_actor_options"] == {"num_cpus": 6}
    assert models["user_config"] == {"repository": str(tmp_path / "app" / "models")}


def test_replicas_follow_the_load_within_bounds(classifier: Path, tmp_path: Path) -> None:
    models = models_of(deploy(classifier, tmp_path / "app", "--max-replicas", "5", "--device", "cuda"))
    assert "num_replicas" not in models
    assert models["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 5, "target_ongoing_requests": 8}
    assert models["ray_actor_options"] == {"num_cpus": 1, "num_gpus": 1}


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts an application on a local cluster; returns where it answers, and the process."""
    if not SERVE.exists():
        pytest.skip("needs Ray Serve: pip install 'netspec[ray]'")
    (port,) = free_ports(1)

    def start(folder: Path, configuration: dict[str, Any]) -> tuple[str, int]:
        configuration["http_options"]["port"] = port
        (folder / "serve.yaml").write_text(yaml.safe_dump(configuration))
        own = {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "NETSPEC_API_KEYS": f"tests:{KEY}"}
        asking = triton_http.InferenceServerClient(f"127.0.0.1:{port}")
        call = [str(SERVE), "run", str(folder / "serve.yaml")]
        process = run(call, own, lambda: asking.is_model_ready("tiny", headers={"X-API-Key": KEY}))
        return f"127.0.0.1:{port}", process.pid

    with engines(tmp_path_factory.mktemp("ray") / "log") as run:
        yield start


def replicas_of(process: int) -> list[int]:
    """The replicas among the descendants of a process."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:  # it ended just now
            continue
        parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])

    def descends(one: int) -> bool:
        return one == process or (one in parents and descends(parents[one]))

    return [one for one, name in names.items() if name.startswith(REPLICA) and descends(one)]


def test_no_request_is_lost_while_replicas_are_killed(application: Any, classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    address, process = application(folder, deploy(classifier, folder, "--replicas", "2"))
    with pytest.raises(InferenceServerException, match="key"):
        triton_http.InferenceServerClient(address).get_model_metadata("tiny")
    images = np.random.default_rng(0).normal(size=(64, 1, 4, 4)).astype(np.float32)
    expected = Session(classifier, EngineOptions("cpu")).run({"image": images})["fc"]
    stop = threading.Event()
    right, wrong = [0] * CLIENTS, []

    def ask(number: int) -> None:
        asking = triton_http.InferenceServerClient(address)
        while not stop.is_set():
            row = (right[number] * CLIENTS + number) % len(images)
            tensor = triton_http.InferInput("image", [1, 1, 4, 4], "FP32").set_data_from_numpy(images[row : row + 1])
            try:
                got = asking.infer("tiny", [tensor], headers={"X-API-Key": KEY}).as_numpy("fc")
                np.testing.assert_allclose(got[0], expected[row], rtol=1e-5)
            except Exception as error:
                wrong.append(error)
                return
            right[number] += 1

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for one in clients:
        one.start()
    killed: list[int] = []
    for _ in range(KILLS):
        there = wait_for_replicas(process, killed)
        time.sleep(1)
        killed.append(there[0])
        os.kill(there[0], signal.SIGKILL)
    wait_for_replicas(process, killed)
    stop.set()
    for one in clients:
        one.join()
    assert wrong == []
    assert min(right) > 20
    print(f"{sum(right)} requests answered, {KILLS} replicas killed")


def wait_for_replicas(process: int, killed: list[int]) -> list[int]:
    """Returns when two replicas live."""
    for _ in range(600):
        there = [one for one in replicas_of(process) if one not in killed]
        if len(there) == 2:
            return there
        time.sleep(0.1)
    pytest.fail("no replica was put in the place of the one that was killed")
