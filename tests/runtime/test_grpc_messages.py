"""The messages are those of the published protocol, as tritonclient has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from tritonclient.grpc import model_config_pb2, service_pb2

from runtime.protocol import messages

PROTOCOL = Path(messages.__file__).parent


def fields(message: Descriptor) -> dict[str, tuple[object, ...]]:
    """What a message is on the wire and in text: by a field's name its number, type, count and oneof."""
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type and field.message_type.full_name,
            field.enum_type and field.enum_type.full_name,
            field.containing_oneof and field.containing_oneof.name,
        )
        for field in message.fields
    }


def with_nested(found: Iterator[Descriptor]) -> Iterator[Descriptor]:
    for message in found:
        yield message
        yield from with_nested(iter(message.nested_types))


@pytest.mark.parametrize("theirs", [model_config_pb2.DESCRIPTOR, service_pb2.DESCRIPTOR], ids=lambda file: file.name)
def test_every_message_of_the_published_protocol_is_here_field_by_field(theirs: FileDescriptor) -> None:
    walked = list(with_nested(iter(theirs.message_types_by_name.values())))
    assert len(walked) > 30
    for message in walked:
        ours = messages.POOL.FindMessageTypeByName(message.full_name)
        assert fields(ours) == fields(message), message.full_name
        for enum in message.enum_types:
            ours_values = messages.POOL.FindEnumTypeByName(enum.full_name).values_by_name
            assert {name: value.number for name, value in ours_values.items()} == {
                name: value.number for name, value in enum.values_by_name.items()
            }


def test_the_data_types_are_those_of_the_published_protocol() -> None:
    theirs = model_config_pb2.DataType.items()
    assert [(value.name, value.number) for value in messages.DataType.values] == theirs


def test_every_call_of_the_published_service_is_here() -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    ours = messages.INFERENCE_SERVICE
    assert ours.full_name == theirs.full_name
    assert signatures(ours) == signatures(theirs)


def signatures(service: ServiceDescriptor) -> dict[str, tuple[str, str, bool, bool]]:
    return {
        method.name: (
            method.input_type.full_name,
            method.output_type.full_name,
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    }


def test_the_compiled_messages_are_current(tmp_path: Path) -> None:
    compiled = tmp_path / "current.binpb"
    files = ["model_config.proto", "inference.proto", "health.proto"]
    assert protoc.main(["protoc", f"-I{PROTOCOL}", f"--descriptor_set_out={compiled}", *files]) == 0
    current, kept = (
        FileDescriptorSet.FromString(path.read_bytes()) for path in (compiled, PROTOCOL / "inference.binpb")
    )
    assert kept == current, "compile the .proto files again: make protocol"


def test_health_is_the_published_one() -> None:
    """The wire form of grpc/health/v1: SERVING is 1 in field 1, as every client of it reads."""
    answer = messages.message_class("grpc.health.v1.HealthCheckResponse")
    assert answer(status="SERVING").SerializeToString() == b"\x08\x01"
    assert messages.HEALTH_SERVICE.methods_by_name["Watch"].server_streaming
