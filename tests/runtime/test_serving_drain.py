"""How a server ends: what it has accepted is answered, nothing new is taken, and the process leaves with 0."""

import contextlib
import http.client
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from tests.runtime.served import MAIN, Served, infer, serving

# Every run but the warm-up takes so long, in the thread of an instance, as a large model's would.
SLOW = """
import time, runtime.session as session
run, warm_up = session.Session.run, iter([0])
session.Session.run = lambda self, *given: (time.sleep(next(warm_up, SECONDS)), run(self, *given))[1]
"""


@pytest.fixture
def slow(classifier: Path) -> Iterator[Served]:
    """A server whose runs take a second, each for one request."""
    with serving(classifier, "--max-batch", 1, rpc=True, before=SLOW.replace("SECONDS", "1")) as served:
        yield served


def stopped_while(served: Served, asking: Sequence[Callable[[], None]]) -> int:
    """The exit status of a server that is stopped while all of these ask it, each in a thread, to their end."""
    threads = [threading.Thread(target=ask) for ask in asking]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    served.process.terminate()
    for thread in threads:
        thread.join()
    return served.end()


def asking(served: Served, count: int) -> tuple[list[threading.Thread], list[int]]:
    """Threads that ask at once, and the statuses that they are answered."""
    statuses: list[int] = []

    def ask() -> None:
        try:
            infer(served.url, "model")
            statuses.append(200)
        except urllib.error.HTTPError as error:
            assert list(json.load(error)) == ["error"]
            statuses.append(error.code)
        except OSError:
            statuses.append(0)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, statuses


def wait_until_asked(served: Served, count: int) -> None:
    """Returns when so many requests are with the model."""
    with closing(http.client.HTTPConnection(*served.address, timeout=10)) as client:
        while True:
            client.request("GET", "/metrics")
            if f'netspec_in_flight{{model="model",version="1"}} {count}.0' in client.getresponse().read().decode():
                return
            time.sleep(0.02)


def test_what_runs_and_what_waits_is_answered(slow: Served) -> None:
    threads, statuses = asking(slow, 3)
    wait_until_asked(slow, 3)
    slow.process.terminate()
    slow.wait_for("stopping: what was accepted is answered")
    time.sleep(0.3)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(slow.address, timeout=5)
    for thread in threads:
        thread.join()
    assert statuses == [200, 200, 200]
    assert slow.end() == 0
    assert "Traceback" not in slow.log


def test_a_kept_connection_hears_that_the_server_is_not_ready(slow: Served) -> None:
    threads, statuses = asking(slow, 1)
    wait_until_asked(slow, 1)
    client = http.client.HTTPConnection(*slow.address, timeout=10)
    client.request("GET", "/v2/health/ready")
    assert client.getresponse().read()
    slow.process.terminate()
    slow.wait_for("stopping: what was accepted is answered")
    body = json.dumps({"inputs": []})
    client.request("POST", "/v2/models/model/infer", body)
    reply = client.getresponse()
    assert (reply.status, json.load(reply)) == (503, {"error": "the server is stopping"})
    assert reply.headers["connection"] == "close"
    client.close()
    threads[0].join()
    assert statuses == [200]
    assert slow.end() == 0


def test_a_request_that_is_half_there_is_read_and_answered(classifier: Path) -> None:
    with serving(classifier) as served, socket.create_connection(served.address, timeout=10) as client:
        body = json.dumps(
            {"inputs": [{"name": "image", "shape": [1, 1, 4, 4], "datatype": "FP32", "data": [0.5] * 16}]}
        )
        head = f"POST /v2/models/model/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall((head + body[:10]).encode())
        time.sleep(0.2)
        served.process.terminate()
        served.wait_for("stopping: what was accepted is answered")
        time.sleep(0.5)
        client.sendall(body[10:].encode())
        with http.client.HTTPResponse(client) as reply:
            reply.begin()
            assert (reply.status, json.load(reply)["model_name"]) == (200, "model")
        assert served.end() == 0


def test_what_takes_too_long_is_given_up_with_503(classifier: Path) -> None:
    with (
        serving(classifier, "--drain", 0.5, before=SLOW.replace("SECONDS", "8")) as served,
        socket.create_connection(served.address, timeout=10) as half,
    ):
        half.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        threads, statuses = asking(served, 2)
        wait_until_asked(served, 2)
        began = time.monotonic()
        served.process.terminate()
        for thread in threads:
            thread.join()
        assert statuses == [503, 503]
        assert half.recv(1000).startswith(b"HTTP/1.1 503 ")
        assert served.end() == 0
        assert 0.4 < time.monotonic() - began < 6
    assert "Traceback" not in served.log


def test_a_load_that_takes_too_long_is_given_up_with_503(classifier: Path) -> None:
    with serving(classifier, "--drain", 0.3, before=SLOW.replace("SECONDS", "8")) as served:
        client = http.client.HTTPConnection(*served.address, timeout=10)
        client.request("POST", "/v2/repository/models/model/load", b"{}")
        time.sleep(0.3)
        served.process.terminate()
        reply = client.getresponse()
        assert (reply.status, json.load(reply)) == (503, {"error": "the server is stopping"})
        assert served.end() == 0
    assert "Traceback" not in served.log


def test_streams_that_are_cut_off_are_no_event_for_the_log(classifier: Path) -> None:
    """Their clients go on asking while the server stops without waiting for them."""
    tensor = InferInput("image", [1, 1, 4, 4], "FP32").set_data_from_numpy(np.zeros((1, 1, 4, 4), np.float32))
    with serving(classifier, "--drain", 0, rpc=True) as served, contextlib.ExitStack() as clients:

        def ask(client: InferenceServerClient) -> None:
            answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
            client.start_stream(lambda result, error: answers.put(error))
            for _ in range(4):
                client.async_stream_infer("model", [tensor])
            with contextlib.suppress(InferenceServerException):
                while answers.get(timeout=10) is None:
                    client.async_stream_infer("model", [tensor])

        streams = [InferenceServerClient(served.rpc) for _ in range(8)]
        assert stopped_while(served, [partial(ask, clients.enter_context(stream)) for stream in streams]) == 0
    assert "Traceback" not in served.log


def test_calls_over_grpc_are_answered_and_new_ones_are_unavailable(slow: Served) -> None:
    threads, statuses = asking(slow, 2)
    wait_until_asked(slow, 2)
    with grpc.insecure_channel(slow.rpc) as channel:
        alive = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert alive(b"", timeout=5, wait_for_ready=True) == b"\x08\x01"
        slow.process.terminate()
        slow.wait_for("stopping: what was accepted is answered")
        time.sleep(0.3)
        with pytest.raises(grpc.RpcError) as raised:
            alive(b"", timeout=5)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]
    assert slow.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once(classifier: Path, number: signal.Signals) -> None:
    with serving(classifier, rpc=True) as served:
        with socket.create_connection(served.address) as idle:
            idle.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            served.process.send_signal(number)
            assert served.end() == 0
        assert time.monotonic() - began < 5
    assert served.log.splitlines()[-1].endswith(" stopped")


def test_a_second_signal_ends_it_at_once(classifier: Path) -> None:
    with serving(classifier, before=SLOW.replace("SECONDS", "20")) as served:
        asking(served, 1)
        wait_until_asked(served, 1)
        served.process.terminate()
        served.wait_for("stopping: what was accepted is answered")
        served.process.terminate()
        assert served.end(5) == 0


def test_signals_to_a_server_that_has_stopped_change_nothing(classifier: Path) -> None:
    """It leaves with 0 however often it is told to stop, and waits for nothing that libraries do at the end."""
    lingering = "import atexit, time; atexit.register(time.sleep, 3)"
    with serving(classifier, rpc=True, before=lingering) as served:
        served.process.terminate()
        served.wait_for(" stopped\n")
        time.sleep(0.2)
        served.process.terminate()
        assert served.end(2) == 0


INTERRUPTED_LOG = """
import logging, signal
from runtime.server.logs import logging_to_stderr

log = logging.getLogger("netspec")
with logging_to_stderr("text", "info") as end:
    def hear(*_):
        end()
        signal.setitimer(signal.ITIMER_REAL, 1e-4)

    signal.signal(signal.SIGALRM, hear)
    hear()
    for _ in range(5_000):
        log.info("a record")
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
"""


def test_a_signal_may_end_the_log_while_a_record_is_written() -> None:
    subprocess.run([sys.executable, "-c", INTERRUPTED_LOG], stderr=subprocess.DEVNULL, check=True, timeout=20)


LOADS_FOREVER = """
import time
import runtime.serving.ahead as ahead

def load(*arguments):
    print("loading", flush=True)
    time.sleep(60)

ahead.Session = load
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_model_loads(classifier: Path, number: signal.Signals) -> None:
    call = [sys.executable, "-c", LOADS_FOREVER + MAIN, str(classifier), "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(number)
            assert process.communicate(timeout=5) == ("", "")
        finally:
            process.kill()
    assert process.returncode == 0


LOADS_THE_SECOND_FOREVER = """
import sys, time, runtime.session as session
make = session.Session.__init__

def load(self, path, *options):
    if path.parent.name == "2":
        print("loading", file=sys.stderr, flush=True)
        time.sleep(60)
    make(self, path, *options)

session.Session.__init__ = load
"""


def test_a_model_that_still_loads_is_not_waited_for(classifier: Path, tmp_path: Path) -> None:
    file = tmp_path / "repository" / "model" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    shutil.copy(classifier, file)
    options = ("--repository", tmp_path / "repository", "--poll", "0.1")
    with serving(*options, before=LOADS_THE_SECOND_FOREVER) as served:
        shutil.copytree(file.parent, file.parent.with_name("2"))
        served.wait_for("loading")
        served.process.terminate()
        assert served.end(5) == 0
    assert served.log.splitlines()[-1].endswith(" stopped")


def test_no_request_is_lost_while_many_come(classifier: Path) -> None:
    """Every request on a connection of its own is answered, or finds the door shut."""
    outcomes: list[int | str] = []
    with serving(classifier) as served:

        def ask() -> None:
            while True:
                with closing(http.client.HTTPConnection(*served.address, timeout=10)) as client:
                    try:
                        client.request("GET", "/v2/models/model")
                        outcomes.append(client.getresponse().status)
                    except ConnectionRefusedError:
                        return
                    except OSError as error:
                        outcomes.append(repr(error))
                if outcomes[-1] != 200:
                    return

        assert stopped_while(served, [ask] * 8) == 0
    assert 200 in outcomes
    assert set(outcomes) <= {200, 503}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_below_the_log_harms_no_request(classifier: Path) -> None:
    call = [sys.executable, "-c", MAIN, str(classifier), "--port", "0", "--grpc-port", "off", "--access-log"]
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(call, stdout=subprocess.PIPE, stderr=full, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split(" at ")[1].split("/v2")[0]
            for _ in range(20):
                assert infer(url, "model")["model_name"] == "model"
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_below_standard_output_is_told(classifier: Path) -> None:
    call = [sys.executable, "-c", MAIN, str(classifier), "--port", "0", "--grpc-port", "off"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, env={**os.environ})
    assert done.returncode == 1
    assert "error: cannot write to standard output: No space left on device" in done.stderr
