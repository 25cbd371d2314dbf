"""Keys and certificates over gRPC, asked of a server as an operator starts it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.runtime.grpc_server import request, tensor
from tests.runtime.served import serving

ALICE = "alice-0123456789abcdef"
ADMIN = "root-0123456789abcdef"
RIGHT = request("model", tensor("image", shape=(1, 1, 4, 4)), raw=(bytes(64),))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[object, ...]:
    """Options with the keys of a user and of an administrator."""
    users, admins = tmp_path / "keys", tmp_path / "admins"
    users.write_text(f"alice:{ALICE}\n")
    admins.write_text(f"root:{ADMIN}\n")
    return "--keys", users, "--admin-keys", admins


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> grpc.StatusCode:
    """The status with which a call, of one answer or a stream of them, is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        answer = call(*arguments, **options)
        list(answer if hasattr(answer, "__next__") else [])
    return caught.value.code()


def test_only_who_has_a_key_may_call(classifier: Path, keys: tuple[object, ...]) -> None:
    with serving(classifier, *keys, rpc=True) as served, grpc.insecure_channel(served.rpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
        assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"
        load = service_pb2.RepositoryModelLoadRequest(model_name="model")
        for metadata in ([], [("authorization", "Bearer alice")]):
            assert refused(stub.ModelInfer, RIGHT, metadata=metadata) is grpc.StatusCode.UNAUTHENTICATED
            stream = refused(stub.ModelStreamInfer, iter([RIGHT]), metadata=metadata)
            assert stream is grpc.StatusCode.UNAUTHENTICATED
        for header in (("authorization", f"Bearer {ALICE}"), ("x-api-key", ALICE)):
            assert stub.ModelInfer(RIGHT, metadata=[header]).model_name == "model"
            (answer,) = stub.ModelStreamInfer(iter([RIGHT]), metadata=[header])
            assert not answer.error_message
            loading = refused(stub.RepositoryModelLoad, load, metadata=[header])
            assert loading is grpc.StatusCode.PERMISSION_DENIED
        stub.RepositoryModelLoad(load, metadata=[("authorization", f"Bearer {ADMIN}")])


def test_the_client_over_tls(classifier: Path, pem: Path) -> None:
    """With the server's certificate, and with one of the client's own where the server asks for it."""
    image = InferInput("image", [1, 1, 4, 4], "FP32")
    image.set_data_from_numpy(np.zeros((1, 1, 4, 4), np.float32))
    certificates = ("--certificate", pem / "server.pem", "--private-key", pem / "server.key")
    own = {"private_key": str(pem / "client.key"), "certificate_chain": str(pem / "client.pem")}
    with serving(classifier, *certificates, "--client-ca", pem / "client.pem", rpc=True) as served:
        secure = {"ssl": True, "root_certificates": str(pem / "server.pem")}
        known = InferenceServerClient(served.rpc, **secure, **own)
        assert known.infer("model", [image]).as_numpy("fc").shape == (1, 3)
        for options in (secure, {}):
            with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
                InferenceServerClient(served.rpc, **options).infer("model", [image], client_timeout=10)
