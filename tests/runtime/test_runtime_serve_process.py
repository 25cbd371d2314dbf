"""``netspec serve`` as a command: a line for each address, and clear errors about what it can't start with."""

import contextlib
import http.client
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from runtime.cli.serve import command
from runtime.errors import AddressError
from runtime.server.address import bind, is_loopback, url_of
from runtime.server.settings import Settings
from runtime.server.tls import Certificates
from runtime.serving.sources import Source
from tests.runtime.conftest import SaveModel
from tests.runtime.served import MAIN, infer, serving


def started(*arguments: object) -> Result:
    """What the command says of these arguments, on any free port."""
    return CliRunner().invoke(command, ["--port", "0", *map(str, arguments)])


def refused(*arguments: object) -> str:
    """The error that ends the command before anything listens."""
    result = started(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return re.sub(r"(?m)^\d{4}-.*\n", "", result.stderr)  # without the log


def test_it_tells_where_it_answers_http_and_grpc(classifier: Path) -> None:
    with serving(classifier, rpc=True) as served:
        assert infer(served.url, "model")["model_name"] == "model"
        with grpc.insecure_channel(served.rpc) as channel:
            grpc.channel_ready_future(channel).result(10)


def neighbours() -> int:
    """A free port before another free one, below those that the system gives out by itself."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(AddressError), bind("127.0.0.1", port), bind("127.0.0.1", port + 1):
            return port


def test_grpc_is_beside_http_unless_told(classifier: Path) -> None:
    port = neighbours()
    call = [sys.executable, "-c", MAIN, str(classifier), "--port", str(port)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.terminate()
        assert process.wait(10) == 0
    assert f" at http://127.0.0.1:{port}/v2/models/model on " in lines[0]
    assert lines[1] == f"serving gRPC at 127.0.0.1:{port + 1}\n"


def test_several_files_are_served_under_their_names(save_classifier: SaveModel) -> None:
    one, other = save_classifier(name="one.onnx"), save_classifier(name="other.onnx")
    with serving(one, other) as served:
        for name in ("one", "other"):
            assert infer(served.url, name)["model_name"] == name


def test_a_repository_is_served_but_for_what_is_broken(save_classifier: SaveModel, tmp_path: Path) -> None:
    save_classifier(name="models/digits/3/model.onnx")
    broken = tmp_path / "models" / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.onnx").write_bytes(b"noise")
    with serving("--repository", tmp_path / "models") as served:
        assert infer(served.url, "digits")["model_version"] == "3"
        with pytest.raises(urllib.error.HTTPError) as raised:
            infer(served.url, "broken")
        assert raised.value.code == 503
        assert "is not an ONNX file" in json.load(raised.value)["error"]
        assert served.log.count("version 1 of 'broken' can't be loaded") == 1


def test_with_polling_models_come_and_go(save_classifier: SaveModel, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with serving("--repository", tmp_path / "models", "--poll", "0.1") as served:
        saved = save_classifier(name="models/digits/1/model.onnx")
        served.wait_for("version 1 of 'digits' is ready")
        assert infer(served.url, "digits")["model_version"] == "1"
        saved.parent.rename(saved.parent.with_name("2"))
        served.wait_for("version 2 of 'digits' is ready")
        served.wait_for("version 1 of 'digits' is unloaded")
        assert infer(served.url, "digits")["model_version"] == "2"
        (saved.parents[1] / "config.pbtxt").write_text("max_batch: 3")
        served.wait_for("the model 'digits' can't be loaded")
        time.sleep(0.5)
        assert served.log.count("can't be loaded") == 1
        shutil.rmtree(saved.parents[1])
        served.wait_for("version 2 of 'digits' is unloaded")
        served.wait_for("the model 'digits' is gone from the repository")
        (tmp_path / "models").rmdir()
        served.wait_for("cannot read the model repository")
        time.sleep(0.3)
        assert served.log.count("cannot read the model repository") == 1


def test_a_model_that_is_unloaded_by_request_is_told_of(classifier: Path) -> None:
    with serving(classifier) as served:
        for call in ("unload", "load"):
            urllib.request.urlopen(f"{served.url}/v2/repository/models/model/{call}", b"", timeout=10).close()
        served.process.terminate()
        assert served.end() == 0
    told = [line.partition("version 1 of 'model' is ")[2].split(" ")[0].strip() for line in served.lines]
    assert told[:3] == ["ready", "unloaded", "ready"]


def test_options_of_batching_reach_the_model(classifier: Path) -> None:
    options = ("--max-batch", 4, "--max-delay", 0.001, "--instances", 2)
    with (
        serving(classifier, *options) as served,
        urllib.request.urlopen(f"{served.url}/v2/models/model/config") as reply,
    ):
        config = json.load(reply)
    assert config["max_batch_size"] == 4
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] in (1000, "1000")
    assert config["instance_group"][0]["count"] == 2


def test_what_the_options_say_is_what_is_served(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the engine's cache is made
    asked: list[tuple[Source, Settings]] = []
    monkeypatch.setattr("runtime.server.process.serve", lambda *given: asked.append((given[0], given[2])))
    options = "--device tensorrt --threads 3 --instances 2 --no-spinning --device-id 1 --fp16"
    options += " --engine-cache cache --max-batch 7 --max-delay .5 --max-queue 9 --timeout 4 --host ::1 --port 80"
    options += " --grpc-port 90 --max-body 11 --max-connections 12 --drain 13 --poll 14 --log-format json --access-log"
    options += (
        " --log-level error --traces http://x --keys a --admin-keys b --certificate c --private-key d --client-ca e"
    )
    assert CliRunner().invoke(command, [str(classifier), *options.split()]).exit_code == 0
    ((source, settings),) = asked
    model = source.find("model").options
    assert (model.device, model.threads, model.instances, model.spinning) == ("tensorrt", 3, 2, False)
    assert (model.device_id, model.fp16, model.engine_cache) == (1, True, Path("cache"))
    assert (model.max_batch, model.max_delay, model.max_queue, model.timeout) == (7, 0.5, 9, 4)
    assert settings == Settings(
        host="::1",
        port=80,
        rpc_port=90,
        max_body=11,
        max_connections=12,
        drain=13,
        poll=14,
        log_format="json",
        log_level="error",
        access_log=True,
        traces="http://x",
        keys=Path("a"),
        admin_keys=Path("b"),
        certificates=Certificates(Path("c"), Path("d"), Path("e")),
    )


def test_a_large_upload_is_refused_and_its_client_goes_on_with_another_connection(classifier: Path) -> None:
    with serving(classifier, "--max-body", "1000") as served:
        connection = http.client.HTTPConnection(*served.address, timeout=20)
        for size in (30_000_000, 1_001):
            connection.request("POST", "/v2/models/model/infer", b" " * size)
            reply = connection.getresponse()
            assert (reply.status, reply.headers["Connection"]) == (413, "close")
            assert json.load(reply) == {"error": "the body is larger than 1000 bytes"}
            connection.request("GET", "/v2/health/live")
            reply = connection.getresponse()
            assert (reply.status, json.load(reply)) == (200, {"live": True})
        connection.close()


def test_more_connections_than_asked_for_are_503(classifier: Path) -> None:
    with serving(classifier, "--max-connections", 1) as served, socket.create_connection(served.address) as held:
        held.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert held.recv(1000).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"{served.url}/v2", timeout=10)
    assert raised.value.code == 503


HELD_RUNS = """
import time
from pathlib import Path
from runtime.session import Session
run = Session.run
def held(self, *given):
    Path({running!r}).touch()
    while Path({hold!r}).exists():
        time.sleep(0.01)
    return run(self, *given)
Session.run = held
"""


def test_a_full_queue_and_a_long_wait_are_503(classifier: Path, tmp_path: Path) -> None:
    hold, running = tmp_path / "hold", tmp_path / "running"
    held = HELD_RUNS.format(hold=str(hold), running=str(running))
    with (
        serving(classifier, "--max-queue", 2, "--timeout", 0.2, before=held) as served,
        ThreadPoolExecutor(3) as asking,
    ):
        statuses = f"{served.url}/v1/status"

        def refusal() -> str:
            with pytest.raises(urllib.error.HTTPError) as raised:
                infer(served.url, "model")
            assert raised.value.code == 503
            return str(json.load(raised.value)["error"])

        def waiting() -> int:
            with urllib.request.urlopen(statuses, timeout=10) as reply:
                return int(json.load(reply)["models"][0]["statistics"]["waiting"])

        running.unlink(missing_ok=True)
        hold.touch()
        answers = [asking.submit(infer, served.url, "model")]
        until(running.exists)
        assert "for 0.2 s, as long as it may" in refusal()
        # These may wait longer than others.
        answers += [asking.submit(infer, served.url, "model", parameters={"timeout": 60_000_000}) for _ in range(2)]
        until(lambda: waiting() == 2)
        assert "2 requests wait for 'model' already, as many as may" in refusal()
        hold.unlink()
        assert [answer.result()["model_name"] for answer in answers] == ["model"] * 3


def until(condition: Callable[[], bool]) -> None:
    """Returns when it holds; fails when it doesn't within 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_images_and_tensors_share_the_memory_that_requests_may_have(classifier: Path) -> None:
    head = b"POST /v1/predict/model HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    head += b"Content-Length: 1000\r\n\r\n"

    def is_refused() -> bool:
        try:
            infer(served.url, "model")
        except urllib.error.HTTPError as error:
            assert (error.code, "fill the memory" in json.load(error)["error"]) == (503, True)
            return True
        return False

    with serving(classifier, "--max-body", 1000) as served, contextlib.ExitStack() as uploads:

        def is_full() -> bool:
            """Whether uploads fill the memory; one that came beside a tensor found no room, so one more."""
            if not is_refused():
                upload = uploads.enter_context(socket.create_connection(served.address))
                upload.sendall(head + bytes(999))
                return False
            return True

        until(is_full)
        uploads.close()
        until(lambda: not is_refused())


def test_many_clients_at_once_get_their_own_answers(classifier: Path) -> None:
    answers: dict[int, object] = {}
    with serving(classifier, "--name", "digits") as served:

        def ask(number: int) -> None:
            answers[number] = infer(served.url, "digits", number / 10)["outputs"]

        for _ in range(2):
            threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len({json.dumps(answers[number]) for number in range(16)}) == 16
            expected = answers.copy()
        assert answers == expected


def test_a_name_with_spaces_in_its_url(classifier: Path) -> None:
    spaced = classifier.rename(classifier.with_name("my digits.onnx"))
    call = [sys.executable, "-c", MAIN, str(spaced), "--port", "0", "--grpc-port", "off"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert line.startswith("serving my digits at ")
    assert "/v2/models/my%20digits on " in line


def test_help_ends_with_an_example() -> None:
    help = CliRunner().invoke(command, ["--help"]).stdout
    assert help.endswith("Example: netspec serve runs/demo/model.onnx --port 8000\n")


def test_signals_are_as_before_when_the_command_is_done(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    refused(tmp_path / "nothing.onnx")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_port_in_use(classifier: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = refused(classifier, "--port", port)
        assert f"port {port} on 127.0.0.1 is in use" in error
        assert "= help: stop what uses it, or take another with --port" in error
        error = refused(classifier, "--grpc-port", port)
        assert f"port {port} on 127.0.0.1 is in use" in error
        assert "or take another with --grpc-port" in error


LOADS_UNTIL_CANCELLED = """
import time
import onnxruntime

class Options(onnxruntime.SessionOptions):
    is_cancelled = False

    def set_load_cancellation_flag(self, value):
        Options.is_cancelled = value

def load(path, options, **more):
    while not options.is_cancelled:
        time.sleep(0.01)
    raise RuntimeError("cancelled")

onnxruntime.SessionOptions, onnxruntime.InferenceSession = Options, load
"""


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_who_cannot_start_does_not_wait_for_the_model(classifier: Path, tmp_path: Path, device: str) -> None:
    (tmp_path / "other.pem").write_text("no certificate")
    files = ["--certificate", tmp_path / "other.pem", "--private-key", tmp_path / "other.pem"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        wrong = {
            "is in use": ["--port", other.getsockname()[1]],
            "holds no certificate in PEM format": ["--port", 0, *files],
            "expected NAME:KEY": ["--port", 0, "--keys", tmp_path / "other.pem"],
        }
        for message, options in wrong.items():
            call = [sys.executable, "-c", LOADS_UNTIL_CANCELLED + MAIN, classifier, "--device", device, *options]
            done = subprocess.run([*map(str, call)], capture_output=True, text=True, timeout=20)
            assert (done.returncode, done.stdout) == (1, "")
            assert message in done.stderr and done.stderr.startswith("error: ")


def test_hosts_that_are_not_here(classifier: Path) -> None:
    assert "there is no host 'no.such.host.invalid'" in refused(classifier, "--host", "no.such.host.invalid")
    assert "there is no host" in refused(classifier, "--host", "a" * 300)
    assert "203.0.113.7 is no address of this machine" in refused(classifier, "--host", "203.0.113.7")


def test_a_port_that_needs_more_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", denied)
    with pytest.raises(AddressError, match="port 80 needs more rights than you have"):
        bind("127.0.0.1", 80)


def test_urls_of_ipv6_addresses_are_bracketed() -> None:
    try:
        listener = bind("::1", 0)
    except AddressError:
        listener = bind("127.0.0.1", 0)  # a machine without IPv6
    with listener:
        assert re.fullmatch(r"http://(\[::1\]|127\.0\.0\.1):\d+", url_of(listener))
        assert is_loopback(listener)
    with bind("0.0.0.0", 0) as listener:
        assert not is_loopback(listener)


def test_models_that_cannot_be_loaded_are_told(save_classifier: SaveModel, tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    assert "is not an ONNX file, or it is damaged" in refused(tmp_path / "noise.onnx")
    assert "there is no model at" in refused(tmp_path / "nothing.onnx")
    assert "is not an ONNX file" in refused(save_classifier(), tmp_path / "noise.onnx")
    assert "= help: a model is an .onnx file; `netspec export lenet5 -o lenet5.onnx` makes" in refused("lenet5")
    (tmp_path / "spec.yaml").write_text("netspec: 1")
    assert f"`netspec export {tmp_path}/spec.yaml -o {tmp_path}/spec.onnx`" in refused(tmp_path / "spec.yaml")
    (tmp_path / "empty.onnx").touch()
    assert "= help: export it again" in refused(tmp_path / "empty.onnx")
    (tmp_path / "other.onnx").write_bytes(b"noise too")
    both = started(tmp_path / "noise.onnx", tmp_path / "other.onnx").stderr
    assert "error: " in both and "(and 1 more can't be loaded)" in both
    assert both.count(f"{tmp_path}/noise.onnx is not") == both.count(f"{tmp_path}/other.onnx is not") == 1
    newer = refused(save_classifier(opset=99, name="newer.onnx"))
    assert "has opset 99, too new for ONNX Runtime" in newer


def test_repositories_without_a_model_are_told(tmp_path: Path) -> None:
    assert f"cannot read the model repository {tmp_path}/none: No such file" in refused(
        "--repository", tmp_path / "none"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no model in the repository" in refused("--repository", empty)
    (empty / "digits").mkdir()
    assert "has no version of a model" in refused("--repository", empty)


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--grpc-port", "70000"),
        ("--grpc-port", "on"),
        ("--name", "a/b"),
        ("--name", ""),
        ("--name", ".."),
        ("--max-body", "0"),
        ("--max-connections", "0"),
        ("--max-delay", "nan"),
        ("--timeout", "0"),
        ("--timeout", "inf"),
        ("--drain", "-1"),
        ("--poll", "0"),
        ("--log-level", "loud"),
        ("--traces", "foo"),
        ("--traces", "127.0.0.1:4318"),
        ("--traces", "ftp://127.0.0.1"),
        ("--traces", "http://127.0.0.1:port"),
        ("--repository", "."),
    ],
)
def test_wrong_usage_is_2(classifier: Path, options: tuple[str, str]) -> None:
    assert CliRunner().invoke(command, [str(classifier), *options]).exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "cpu", "--device-id", "0"), "--device-id has no meaning on the device cpu"),
        (("--device", "cpu", "--cuda-graph"), "--cuda-graph has no meaning on the device cpu"),
        (("--device", "cuda", "--fp16"), "or leave --fp16 out"),
        (("--engine-cache", "cache"), "--engine-cache has no meaning on the device auto"),
        (("--device", "cuda", "--cuda-graph", "--instances", "2"), "2 instances would share it"),
    ],
)
def test_options_of_other_devices_are_wrong_usage(classifier: Path, options: tuple[str, ...], message: str) -> None:
    result = started(classifier, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_what_is_no_port_of_grpc(classifier: Path) -> None:
    told = " ".join(started(classifier, "--grpc-port", "on").stderr.split())
    assert "'on' is neither a port, 0 to 65535, nor `off`" in told


def test_models_that_would_have_one_name(classifier: Path, tmp_path: Path) -> None:
    assert started().exit_code == 2
    assert started("--repository", tmp_path, "--name", "a").exit_code == 2
    assert started(classifier, classifier, "--name", "a").exit_code == 2
    result = started(classifier, classifier.parent)
    assert result.exit_code == 2
    assert f"{classifier} is given twice" in result.stderr
    (tmp_path / "other").mkdir()
    other = shutil.copy(classifier, tmp_path / "other" / "model.onnx")
    result = started(classifier, other)
    assert result.exit_code == 2
    assert "would both be the model 'model'" in result.stderr
