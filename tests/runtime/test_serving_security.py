"""Who may ask a server and how: keys, TLS, names that lead out of the repository, what is refused before it starts."""

import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from runtime.cli.serve import command
from runtime.errors import SecretError
from runtime.server.guard import given_key, is_open_path
from runtime.server.keys import Keys, Ring, digest, read_keys
from runtime.server.tls import Certificates
from runtime.serving.refused import Reason, Refused
from tests.runtime.served import Served, serving

ALICE = "alice-0123456789abcdef"
BOB = "bob-0123456789abcdef"
ADMIN = "root-0123456789abcdef"

Headers = dict[str, str]


def ask(served: Served, path: str, key: str | None = None, method: str = "GET", **options: Any) -> tuple[int, Any]:
    """The status and JSON that answer a request."""
    headers: Headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(served.url + path, method=method, headers=headers | options.get("headers", {}))
    request.data = options.get("body")
    try:
        with urllib.request.urlopen(request, timeout=10, context=options.get("context")) as reply:
            content = reply.read()
            return reply.status, json.loads(content) if content.startswith((b"{", b"[")) else content
    except urllib.error.HTTPError as error:
        answer = json.loads(error.read())
        assert list(answer) == ["error"]
        return error.code, answer["error"]


def refused(*arguments: object) -> str:
    """What a server that can't start says."""
    result = started(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


def started(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["--port", "0", "--grpc-port", "off", *map(str, arguments)])


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Files with the keys of two users and of an administrator."""
    users, admins = tmp_path / "keys", tmp_path / "admins"
    users.write_text(f"# who may ask\nalice:{ALICE}\n\n bob:{BOB} \n")
    admins.write_text(f"root:{ADMIN}\n")
    return users, admins


def test_only_who_has_a_key_may_ask_and_only_administrators_may_load(classifier: Path, keys: tuple[Path, Path]) -> None:
    with serving(classifier, "--keys", keys[0], "--admin-keys", keys[1], "--access-log") as served:
        for probe in ("health/live", "health/ready", "models/model/ready", "models/model/versions/1/ready"):
            assert ask(served, f"/v2/{probe}")[0] == 200
        closed = ("/v2", "/v2/models/model", "/metrics", "/openapi.json", "/v2/models/stats", "/v2/models/model/config")
        for path in closed:
            status, error = ask(served, path)
            assert (status, error) == (401, "a key is needed: send `Authorization: Bearer KEY` or `X-API-Key: KEY`")
            assert ask(served, path, "nobody-0123456789abcdef") == (401, "nobody has this key")
            for key in (ALICE, BOB, ADMIN):
                assert ask(served, path, key)[0] == 200
        assert ask(served, "/v2", headers={"X-API-Key": BOB})[0] == 200
        assert ask(served, "/v2/models/model/infer", method="POST", body=b"{}")[0] == 401
        assert ask(served, "/v2/repository/index", ALICE, "POST", body=b"")[0] == 200
        for call in ("unload", "load"):
            path = f"/v2/repository/models/model/{call}"
            assert ask(served, path, None, "POST")[0] == 401
            assert ask(served, path, ALICE, "POST") == (403, "the key of 'alice' may not load or unload models")
            assert ask(served, path, ADMIN, "POST")[0] == 200
        assert ask(served, "/v2/models/model", ALICE)[0] == 200
        served.process.terminate()
        assert served.end() == 0
    for key in (ALICE, BOB, ADMIN, "nobody-0123456789abcdef"):
        assert key not in served.log
    assert "key=alice" in served.log


def test_a_refusal_says_how_to_authenticate(classifier: Path, keys: tuple[Path, Path]) -> None:
    with serving(classifier, "--keys", keys[0]) as served, pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{served.url}/v2", timeout=10)
    assert raised.value.headers["WWW-Authenticate"] == 'Bearer realm="netspec"'
    assert raised.value.headers["Content-Type"] == "application/json"


def test_keys_are_changed_without_a_restart(classifier: Path, keys: tuple[Path, Path]) -> None:
    with serving(classifier, "--keys", keys[0]) as served:
        assert ask(served, "/v2", ALICE)[0] == 200
        keys[0].with_name("new").write_text("carol:carol-0123456789abcdef\n")
        keys[0].with_name("new").rename(keys[0])
        wait_for(lambda: ask(served, "/v2", "carol-0123456789abcdef")[0] == 200)
        assert ask(served, "/v2", ALICE)[0] == 401
        keys[0].write_text("no key at all\n")
        wait_for(lambda: "the keys stay as they were" in served.log)
        keys[0].unlink()
        wait_for(lambda: served.log.count("the keys stay as they were") == 2)
        os.mkfifo(keys[0])  # to read it would be to wait for who writes it
        time.sleep(1.2)
        assert ask(served, "/v2", "carol-0123456789abcdef")[0] == 200
        assert ask(served, "/v2")[0] == 401


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_keys_from_the_environment(classifier: Path) -> None:
    env = {**os.environ, "NETSPEC_API_KEYS": f"alice:{ALICE},bob:{BOB}", "NETSPEC_ADMIN_KEYS": f"root:{ADMIN}"}
    with serving(classifier, env=env) as served:
        assert ask(served, "/v2")[0] == 401
        assert ask(served, "/v2", BOB)[0] == 200
        assert ask(served, "/v2/repository/models/model/load", BOB, "POST")[0] == 403
        assert ask(served, "/v2/repository/models/model/load", ADMIN, "POST")[0] == 200


def test_without_keys_only_this_machine_loads_and_no_page_of_others_makes_it(classifier: Path) -> None:
    load = "/v2/repository/models/model/load"
    with serving(classifier) as served:
        assert ask(served, load, method="POST")[0] == 200
        status, error = ask(served, load, method="POST", headers={"Origin": "http://evil.example"})
        assert (status, error) == (403, "pages of other origins may not load or unload models")
        assert ask(served, load, method="POST", headers={"Origin": served.url})[0] == 200
        assert "there are no keys" not in served.log


NAMES = ("localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "127.8.8.8:9000", "[::1]", "[::1]:80")
OTHER_NAMES = ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0")


def test_a_server_for_this_machine_has_no_other_names(classifier: Path, keys: tuple[Path, Path]) -> None:
    """A page can have its own name lead here; to the browser the server is then its own."""
    tensor = {"name": "image", "shape": [1, 1, 4, 4], "datatype": "FP32", "data": [0.5] * 16}
    body = json.dumps({"inputs": [tensor]}).encode()
    calls: list[tuple[str, dict[str, Any]]] = [
        ("/v2/models/model/infer", {"method": "POST", "body": body}),
        ("/v2/models/model/infer?", {"method": "POST", "body": body}),
        ("/v2/repository/models/model/load", {"method": "POST"}),
        ("/v2/health/live", {}),
        ("/v1/status", {}),
        ("/", {}),
    ]
    with serving(classifier) as served:
        for path, options in calls:
            for name in NAMES:
                assert ask(served, path, headers={"Host": name, "Origin": f"http://{name}"}, **options)[0] == 200
            for name in OTHER_NAMES:
                status, error = ask(served, path, headers={"Host": name, "Origin": f"http://{name}"}, **options)
                assert status == 403
                assert error.startswith(f"'{name}' may not be asked for")
                assert "--keys" in error
    with serving(classifier, "--host", "localhost") as served:
        assert ask(served, "/v2", headers={"Host": "evil.example"})[0] == 403
    for others in (("--host", "0.0.0.0"), ("--keys", keys[0])):
        with serving(classifier, *others) as served:
            assert ask(served, "/v2", ALICE, headers={"Host": "serving.example"})[0] == 200


def test_an_open_address_without_keys_is_warned_of_and_loads_nothing(classifier: Path, keys: tuple[Path, Path]) -> None:
    load = "/v2/repository/models/model/load"
    with serving(classifier, "--host", "0.0.0.0") as served:
        status, error = ask(served, load, method="POST")
        assert (status, error) == (
            403,
            "models are not loaded or unloaded here: the server was started without keys for that",
        )
        assert ask(served, "/v2")[0] == 200
        served.wait_for("there are no keys (--keys)")
    with serving(classifier, "--host", "0.0.0.0", "--keys", keys[0]) as served:
        served.wait_for("keys cross the network in clear text")


def call(channel: grpc.Channel, method: str, request: bytes = b"", **metadata: str) -> grpc.StatusCode:
    """The status that answers a call over gRPC."""
    named = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    try:
        channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(request, timeout=10, metadata=named)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_keys_over_grpc(classifier: Path, keys: tuple[Path, Path]) -> None:
    model = b"\x0a\x05model"
    load = b"\x12\x05model"
    with (
        serving(classifier, "--keys", keys[0], "--admin-keys", keys[1], "--access-log", rpc=True) as served,
        grpc.insecure_channel(served.rpc) as channel,
    ):
        for probe in ("ServerLive", "ServerReady", "ModelReady"):
            assert call(channel, probe, model) is grpc.StatusCode.OK
        for method in ("ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"):
            request = b"" if method in ("ServerMetadata", "RepositoryIndex") else model
            assert call(channel, method, request) is grpc.StatusCode.UNAUTHENTICATED
            wrong = "nobody-0123456789abcdef"
            assert call(channel, method, request, x_api_key=wrong) is grpc.StatusCode.UNAUTHENTICATED
            assert call(channel, method, request, x_api_key=BOB) is grpc.StatusCode.OK
            assert call(channel, method, request, authorization=f"Bearer {ADMIN}") is grpc.StatusCode.OK
        for method in ("RepositoryModelUnload", "RepositoryModelLoad"):
            assert call(channel, method, load) is grpc.StatusCode.UNAUTHENTICATED
            assert call(channel, method, load, x_api_key=ALICE) is grpc.StatusCode.PERMISSION_DENIED
            assert call(channel, method, load, x_api_key=ADMIN) is grpc.StatusCode.OK
        for stream in ("ModelStreamInfer", "NoSuchMethod"):
            asking = channel.stream_stream(f"/inference.GRPCInferenceService/{stream}")(iter([b""]), timeout=10)
            with pytest.raises(grpc.RpcError) as raised:
                next(asking)
            expected = {"ModelStreamInfer": "UNAUTHENTICATED", "NoSuchMethod": "UNIMPLEMENTED"}
            assert raised.value.code().name == expected[stream]
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=10)
        assert next(watching) == b"\x08\x01"  # serving
        watching.cancel()
        served.process.terminate()
        assert served.end() == 0
    assert "key=bob" in served.log
    assert not any(key in served.log for key in (ALICE, BOB, ADMIN))


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/..%2f..%2fetc%2fpasswd",
        "/v2/models/%2e%2e%2f%2e%2e%2fother/ready",
        "/v2/models/%2e%2e/versions/1",
        "/v2/models/good/versions/..%2f1",
        "/v2/models/good/versions/%2e%2e",
        "/v2/models/%00",
    ],
)
def test_names_do_not_lead_out_of_the_repository(repository: Served, path: str) -> None:
    assert ask(repository, path)[0] == 404


@pytest.mark.parametrize(
    "name", ["..%2foutside", "%2e%2e%2foutside", "..", "%2e%2e", "..%5coutside", "%2e", "good%2f..%2fgood", "%00"]
)
def test_nothing_outside_the_repository_is_loaded(repository: Served, name: str) -> None:
    assert ask(repository, f"/v2/repository/models/{name}/load", method="POST")[0] in (400, 404)
    index = ask(repository, "/v2/repository/index", method="POST", body=b"")[1]
    assert [entry["name"] for entry in index] == ["good"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"config": json.dumps({"name": "good", "default_model_filename": "../../outside/1/model.onnx"})},
        {"config": json.dumps({"name": "good", "default_model_filename": "/etc/passwd"})},
        {"config": json.dumps({"name": "../outside"})},
        {"file:1/model.onnx": "AAAA"},
        {"file:../../outside/1/model.onnx": "AAAA"},
    ],
)
def test_what_a_load_request_brings_leads_nowhere_else(repository: Served, parameters: dict[str, str]) -> None:
    body = json.dumps({"parameters": parameters}).encode()
    assert ask(repository, "/v2/repository/models/good/load", method="POST", body=body)[0] == 400
    assert ask(repository, "/v2/models/good")[0] == 200


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a repository with one model, beside which lies another model that isn't its own."""
    from onnx import TensorProto, helper, save_model

    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "echo", values[:1], values[1:]),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )
    root = tmp_path_factory.mktemp("models")
    for folder in (root / "repository" / "good" / "1", root / "outside" / "1"):
        folder.mkdir(parents=True)
        save_model(model, folder / "model.onnx")
    with serving("--repository", root / "repository") as served:
        yield served


def test_headers_that_hold_keys() -> None:
    assert given_key([(b"host", b"x"), (b"authorization", b"bearer  abc ")]) == "abc"
    assert given_key([(b"x-api-key", b"one"), (b"authorization", b"Bearer two")]) == "two"
    assert given_key([(b"authorization", b"Basic dXNlcg=="), (b"x-api-key", b"one")]) == "one"
    assert given_key([(b"authorization", b"Basic dXNlcg==")]) is None


def test_open_paths() -> None:
    assert is_open_path("/v2/models/a/ready")
    assert not any(
        map(is_open_path, ("/v2/models/ready", "/v2/models/a/b/ready", "/v2/models/a/ready/infer", "/v2/health"))
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "keys holds no key"),
        ("alice", "keys, line 1: expected NAME:KEY"),
        (f"\nal ice:{ALICE}", "keys, line 2: expected NAME:KEY"),
        ("alice:short", "keys, line 1: the key of 'alice' is not at least 16 printable"),
        ("alice:0123456789 abcdef", "keys, line 1: the key of 'alice' is not at least 16 printable"),
        (f"alice:{ALICE}\nalice:{BOB}", "keys, line 2: 'alice' or its key is there already"),
        (f"alice:{ALICE}\nbob:{ALICE}", "keys, line 2: 'bob' or its key is there already"),
    ],
)
def test_files_of_keys_that_are_wrong(text: str, message: str) -> None:
    with pytest.raises(SecretError) as raised:
        read_keys(text, "keys")
    assert message in raised.value.message
    assert not {"short", ALICE, BOB} & set(re.split(r"[\s:]", raised.value.message))


def test_every_key_is_compared_with_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("runtime.server.keys.hmac.compare_digest", compare)
    users = Ring(keys=read_keys(f"alice:{ALICE}\nbob:{BOB}", "keys"))
    keys = Keys(users, Ring(keys=read_keys(f"root:{ADMIN}", "admins")), True)
    assert keys.check(ALICE, is_admin_call=False) == "alice"
    assert compared == [digest(ALICE), digest(BOB), digest(ADMIN)]
    with pytest.raises(Refused) as refusal:
        keys.check(BOB, is_admin_call=True)
    assert refusal.value.reason is Reason.FORBIDDEN


def test_keys_that_cannot_be_read(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "none"
    assert f"cannot read {missing}, a file of keys: No such file" in refused(classifier, "--keys", missing)
    assert "Is a directory" in refused(classifier, "--admin-keys", tmp_path)
    (tmp_path / "binary").write_bytes(b"alice:\xff\xfe")
    assert "is not ASCII text" in refused(classifier, "--keys", tmp_path / "binary")
    (tmp_path / "huge").write_bytes(b"#" * 2_000_000)
    assert "not a file of keys" in refused(classifier, "--keys", tmp_path / "huge")
    monkeypatch.setenv("NETSPEC_API_KEYS", "")
    assert "$NETSPEC_API_KEYS holds no key" in refused(classifier)


def tls(pem: Path, key: str = "server.key") -> tuple[object, ...]:
    return ("--certificate", pem / "server.pem", "--private-key", pem / key)


def test_https(classifier: Path, pem: Path) -> None:
    trusting = ssl.create_default_context(cafile=pem / "server.pem")
    with serving(classifier, *tls(pem)) as served:
        assert served.url.startswith("https://127.0.0.1:")
        assert ask(served, "/v2", context=trusting)[0] == 200
        with pytest.raises((urllib.error.URLError, ConnectionError)):  # HTTP in clear text
            urllib.request.urlopen(served.url.replace("https", "http") + "/v2", timeout=10)
        assert ask(served, "/v2", context=trusting)[0] == 200
    context = Certificates(pem / "server.pem", pem / "server.key").context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_grpc_over_tls(classifier: Path, pem: Path) -> None:
    authority, client, key = ((pem / name).read_bytes() for name in ("server.pem", "client.pem", "client.key"))
    with serving(classifier, *tls(pem), "--client-ca", pem / "client.pem", rpc=True) as served:
        with grpc.secure_channel(served.rpc, grpc.ssl_channel_credentials(authority, key, client)) as channel:
            assert call(channel, "ServerLive") is grpc.StatusCode.OK
        with grpc.secure_channel(served.rpc, grpc.ssl_channel_credentials(authority)) as channel:
            assert call(channel, "ServerLive") is grpc.StatusCode.UNAVAILABLE
        with grpc.insecure_channel(served.rpc) as channel:
            assert call(channel, "ServerLive") is grpc.StatusCode.UNAVAILABLE


def test_clients_with_certificates(classifier: Path, pem: Path) -> None:
    known = ssl.create_default_context(cafile=pem / "server.pem")
    known.load_cert_chain(pem / "client.pem", pem / "client.key")
    with serving(classifier, *tls(pem), "--client-ca", pem / "client.pem") as served:
        assert ask(served, "/v2", context=known)[0] == 200
        unknown = ssl.create_default_context(cafile=pem / "server.pem")
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            ask(served, "/v2", context=unknown)


def test_certificates_that_cannot_be_used(classifier: Path, pem: Path, tmp_path: Path) -> None:
    wrong = refused(classifier, *tls(pem, "client.key"))
    assert f"the certificate {pem}/server.pem is not for the key {pem}/client.key" in wrong
    assert "has a passphrase" in refused(classifier, *tls(pem, "locked.key"))
    assert "holds no private key in PEM format" in refused(classifier, *tls(pem, "server.pem"))
    assert f"cannot read {pem}/none: No such file" in refused(classifier, *tls(pem, "none"))
    swapped = ("--certificate", pem / "server.key", "--private-key", pem / "server.key")
    assert "holds no certificate in PEM format" in refused(classifier, *swapped)
    assert "holds no certificate in PEM format" in refused(classifier, *tls(pem), "--client-ca", pem / "server.key")


@pytest.mark.parametrize(
    ("days", "message"), [(3, "server.pem expired on 20"), (-3, "server.pem is not valid before 20")]
)
def test_a_certificate_is_refused_when_it_is_not_valid(
    classifier: Path, pem: Path, monkeypatch: pytest.MonkeyPatch, days: int, message: str
) -> None:
    now = time.time() + days * 86_400
    monkeypatch.setattr("runtime.server.tls.time.time", lambda: now)
    assert message in refused(classifier, *tls(pem))


def test_a_certificate_is_told_wrong_before_a_model_loads(pem: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"noise")
    assert "is not for the key" in refused(tmp_path / "model.onnx", *tls(pem, "client.key"))


@pytest.mark.parametrize(
    "options",
    [("--certificate", "a"), ("--private-key", "a"), ("--client-ca", "a"), ("--port", "8000", "--grpc-port", "8000")],
)
def test_options_that_do_not_go_together(classifier: Path, options: tuple[str, ...]) -> None:
    assert started(classifier, *options).exit_code == 2
