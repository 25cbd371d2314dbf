"""``netspec serve`` as a process: one line when it answers, an orderly end, and clear errors about addresses."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.cli.serve import command
from runtime.errors import AddressError
from runtime.server.process import bind, url_of

MAIN = "from runtime.cli.serve import command; command()"
STARTED = re.compile(r"serving (\S+) at (http://127\.0\.0\.1:\d+)/v2/models/\S+ on cpu \(as asked\)\n")


@contextmanager
def serving(model: Path, *options: str, before: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, which runs `before` first, and its URL; it is killed at the end."""
    arguments = [str(model), "--port", "0", "--device", "cpu", "--threads", "1", *options]
    call = [sys.executable, "-c", f"{before}\n{MAIN}", *arguments]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            started = STARTED.fullmatch(line)
            assert started, (line, process.stderr.read() if process.stderr else "")
            yield process, started[2]
        finally:
            process.kill()


def post(url: str, values: list[float]) -> dict[str, object]:
    tensor = {"name": "image", "shape": [len(values) // 16, 1, 4, 4], "datatype": "FP32", "data": values}
    request = urllib.request.Request(url, json.dumps({"inputs": [tensor]}).encode())
    with urllib.request.urlopen(request, timeout=10) as reply:
        return dict(json.load(reply))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_with_0(classifier: Path, number: signal.Signals) -> None:
    with serving(classifier) as (process, url):
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as reply:
            assert reply.status == 200
        assert post(f"{url}/v2/models/model/infer", [0.5] * 16)["model_name"] == "model"
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=10)
    assert process.returncode == 0
    assert (stdout, stderr) == ("", "")


def test_an_idle_connection_does_not_keep_it_from_ending(classifier: Path) -> None:
    with serving(classifier) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as idle:
            idle.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_half_sent_request_keeps_it_only_for_a_short_time(classifier: Path) -> None:
    hurried = "import runtime.server.process as process; assert process.DRAIN_SECONDS <= 5; process.DRAIN_SECONDS = 1"
    with serving(classifier, before=hurried) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            with urllib.request.urlopen(f"{url}/v2", timeout=10):
                pass  # the server has seen the connection before
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=4)
            assert client.recv(100).startswith(b"HTTP/1.1 503 ")
    assert process.returncode == 0
    assert "Traceback" not in stderr


LOADS_FOREVER = """
import time
import runtime.server.process as process

def load(*arguments):
    print("loading", flush=True)
    time.sleep(60)

process.Session = load
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_model_loads(classifier: Path, number: signal.Signals) -> None:
    call = [sys.executable, "-c", LOADS_FOREVER + MAIN, str(classifier), "--port", "0"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(number)
            assert process.communicate(timeout=5) == ("", "")
        finally:
            process.kill()
    assert process.returncode == 0


def test_a_large_upload_is_refused_and_the_connection_stays_open(classifier: Path) -> None:
    with serving(classifier, "--max-body", "1000") as (_, url):
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        local = None
        for size in (30_000_000, 1_001):
            connection.request("POST", "/v2/models/model/infer", b" " * size)
            local = local or connection.sock.getsockname()
            reply = connection.getresponse()
            assert reply.status == 413
            assert json.load(reply) == {"error": "the body is larger than 1000 bytes"}
            connection.request("GET", "/v2/health/live")
            reply = connection.getresponse()
            assert (reply.status, json.load(reply)) == (200, {"live": True})
            assert connection.sock.getsockname() == local
        connection.close()


def test_a_model_in_a_directory_is_named_after_its_file(classifier: Path) -> None:
    with serving(classifier.parent) as (_, url):
        assert post(f"{url}/v2/models/model/infer", [0.5] * 16)["model_name"] == "model"


def test_many_clients_at_once_get_their_own_answers(classifier: Path) -> None:
    answers: dict[int, object] = {}
    with serving(classifier, "--name", "digits") as (_, url):

        def ask(number: int) -> None:
            answers[number] = post(f"{url}/v2/models/digits/infer", [number / 10] * 16)["outputs"]

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
    result_line = "serving my digits at "
    call = [sys.executable, "-c", MAIN, str(spaced), "--port", "0"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert line.startswith(result_line)
    assert "/v2/models/my%20digits on " in line


def test_help_ends_with_an_example() -> None:
    help = CliRunner().invoke(command, ["--help"]).stdout
    assert help.endswith("Example: netspec serve runs/demo/model.onnx --port 8000\n")


def test_signals_are_as_before_when_the_command_is_done(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    refused(tmp_path / "nothing.onnx", "--port", 0)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    return result.stderr


def test_a_port_in_use(classifier: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = refused(classifier, "--port", port)
    assert f"port {port} on 127.0.0.1 is in use" in error
    assert "= help: stop what uses it" in error


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


def test_a_broken_model_is_told_before_anything_listens(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"noise")
    assert "is not an ONNX file, or it is damaged" in refused(tmp_path / "model.onnx", "--port", 0)
    assert "there is no model at" in refused(tmp_path / "nothing.onnx", "--port", 0)


@pytest.mark.parametrize("options", [("--port", "70000"), ("--name", "a/b"), ("--name", ""), ("--max-body", "0")])
def test_wrong_usage_is_2(classifier: Path, options: tuple[str, str]) -> None:
    assert CliRunner().invoke(command, [str(classifier), *options]).exit_code == 2
