"""Triton through PyTriton: an inference callable behind Triton's own HTTP and gRPC ends and its dynamic batching."""

from __future__ import annotations

import os
import socket
import sysconfig

import numpy as np
from hosted import TYPES, open_session, parse, parser
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def use_own_python() -> None:
    """Triton's process of inference loads some libpython of the right version; it has to be this interpreter's."""
    found = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, found))


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--grpc-port", type=int, help="any free one by default")
    arguments = parse(options)
    use_own_python()
    session = open_session(arguments.model, arguments.threads)
    outputs = [output.name for output in session.get_outputs()]

    @batch
    def infer(**feeds: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(outputs, session.run(outputs, feeds), strict=True))

    def tensors(described: list) -> list[Tensor]:
        return [
            Tensor(
                name=one.name,
                dtype=TYPES[one.type],
                shape=tuple(size if isinstance(size, int) else -1 for size in one.shape[1:]),
            )
            for one in described
        ]

    # No metrics and no delay: what is waiting when the callable is free makes a batch, and nobody waits for more.
    ports = {"http_port": arguments.port, "grpc_port": arguments.grpc_port or free_port()}
    config = TritonConfig(http_address="127.0.0.1", allow_metrics=False, **ports)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=arguments.name,
            infer_func=infer,
            inputs=tensors(session.get_inputs()),
            outputs=tensors(session.get_outputs()),
            config=ModelConfig(max_batch_size=arguments.max_batch, batcher=DynamicBatcher()),
        )
        triton.serve()


if __name__ == "__main__":
    main()
