"""Certificates that are replaced while a server shows them."""

import http.client
import os
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.runtime.served import Served, serving
from tests.runtime.test_runtime_serve_process import until


def shown(address: tuple[str, int]) -> str:
    """The certificate in PEM format that a new connection is shown, whoever has signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(address, timeout=10) as plain, context.wrap_socket(plain) as connection:
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return ssl.DER_cert_to_PEM_cert(certificate)


def addresses(served: Served) -> list[tuple[str, int]]:
    """Those of HTTP and of gRPC."""
    host, _, port = served.rpc.rpartition(":")
    return [served.address, (host, int(port))]


@pytest.fixture
def files(pem: Path, tmp_path: Path) -> Path:
    """A folder with the server's certificate and key, which may be replaced."""
    for name in ("server.pem", "server.key"):
        shutil.copy(pem / name, tmp_path)
    return tmp_path


def options(files: Path) -> tuple[object, ...]:
    return ("--certificate", files / "server.pem", "--private-key", files / "server.key")


def test_new_connections_are_shown_the_new_certificate(classifier: Path, pem: Path, files: Path) -> None:
    old, new = ((pem / name).read_text() for name in ("server.pem", "client.pem"))
    with serving(classifier, *options(files), rpc=True) as served:
        assert [shown(address) for address in addresses(served)] == [old, old]
        standing = http.client.HTTPSConnection(*served.address, context=ssl.create_default_context(cadata=old))
        standing.request("GET", "/v2")
        assert standing.getresponse().read()
        shutil.copy(pem / "client.key", files / "server.key")
        shutil.copy(pem / "client.pem", files / "server.pem")
        served.wait_for("read the certificates in")
        assert [shown(address) for address in addresses(served)] == [new, new]
        standing.request("GET", "/v2")
        assert standing.getresponse().read()
        standing.close()
        with grpc.secure_channel(served.rpc, grpc.ssl_channel_credentials(new.encode())) as channel:
            alive = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert alive(b"", timeout=10) == b"\x08\x01"


def test_what_is_no_certificate_leaves_the_old_one(classifier: Path, pem: Path, files: Path) -> None:
    old = (pem / "server.pem").read_text()
    with serving(classifier, *options(files), rpc=True) as served:
        shutil.copy(pem / "client.pem", files / "server.pem")
        served.wait_for("the certificates stay as they were: the certificate")
        assert [shown(address) for address in addresses(served)] == [old, old]
        (files / "server.key").unlink()
        served.wait_for("the certificates stay as they were: cannot read")
        assert [shown(address) for address in addresses(served)] == [old, old]
        assert served.log.count("stay as they were") == 2


def test_clients_are_checked_by_the_new_authorities(classifier: Path, pem: Path, files: Path) -> None:
    authorities = files / "authorities.pem"
    shutil.copy(pem / "server.pem", authorities)
    own = ssl.create_default_context(cafile=pem / "server.pem")
    own.load_cert_chain(pem / "client.pem", pem / "client.key")

    def is_let_in() -> bool:
        client = http.client.HTTPSConnection(*served.address, context=own, timeout=10)
        try:
            client.request("GET", "/v2")
            return client.getresponse().status == 200
        except OSError:
            return False
        finally:
            client.close()

    with serving(classifier, *options(files), "--client-ca", authorities) as served:
        assert not is_let_in()
        shutil.copy(pem / "client.pem", authorities)
        until(is_let_in)
        shutil.copy(pem / "server.pem", authorities)
        until(lambda: not is_let_in())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX's")
@pytest.mark.parametrize(("make", "why"), [(os.mkfifo, "it is not a regular file"), (os.mkdir, "Is a directory")])
def test_what_is_no_file_leaves_the_old_certificate(
    classifier: Path, pem: Path, files: Path, make: Callable[[Path], None], why: str
) -> None:
    with serving(classifier, *options(files)) as served:
        (files / "server.pem").unlink()
        make(files / "server.pem")
        served.wait_for(f"the certificates stay as they were: cannot read {files / 'server.pem'}: {why}")
        assert shown(served.address) == (pem / "server.pem").read_text()
