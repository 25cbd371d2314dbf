"""The protocol's messages for gRPC, and Triton's model configuration.

The classes are made at import from `inference.binpb`: what ``protoc`` makes of the `.proto` files beside it, by
`make protocol`. They live in a descriptor pool of their own: clients of the protocol define the package ``inference``
too, and a pool holds a name once, so in the common one a process could not be server and client.
"""

from pathlib import Path
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

# protobuf has no types of its own, and fields exist only at run time.
Message = Any


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    files = FileDescriptorSet.FromString(Path(__file__).with_name("inference.binpb").read_bytes())
    for file in files.file:  # protoc writes a file behind what it imports
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _pool()


def message_class(name: str) -> type[Message]:
    """The class of the message with this full name, such as ``inference.ModelConfig``."""
    made: type[Message] = message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))
    return made


INFERENCE_SERVICE: ServiceDescriptor = POOL.FindServiceByName("inference.GRPCInferenceService")
HEALTH_SERVICE: ServiceDescriptor = POOL.FindServiceByName("grpc.health.v1.Health")

DataType = POOL.FindEnumTypeByName("inference.DataType")
ModelConfig = message_class("inference.ModelConfig")
ModelInferRequest = message_class("inference.ModelInferRequest")
ModelInferResponse = message_class("inference.ModelInferResponse")
ModelStreamInferResponse = message_class("inference.ModelStreamInferResponse")
HealthCheckResponse = message_class("grpc.health.v1.HealthCheckResponse")
