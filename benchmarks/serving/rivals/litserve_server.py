"""LitServe with its batching. It has no protocol of its own, so it is given that of the others: V2 in JSON."""

import signal
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from hosted import TYPES, open_session, parse, parser


class OnnxApi(litserve.LitAPI):
    def __init__(self, model: str, name: str, threads: int, **settings: Any) -> None:
        super().__init__(api_path=f"/v2/models/{name}/infer", **settings)
        self.model, self.name, self.threads = model, name, threads

    def setup(self, device: str) -> None:
        self.session = open_session(self.model, self.threads)
        self.dtypes = {one.name: TYPES[one.type] for one in self.session.get_inputs()}
        self.names = [output.name for output in self.session.get_outputs()]

    def decode_request(self, request: Request) -> dict[str, np.ndarray]:
        return {
            one["name"]: np.asarray(one["data"], self.dtypes[one["name"]]).reshape(one["shape"])
            for one in request["inputs"]
        }

    def batch(self, inputs: list[dict[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], list[int]]:
        name = next(iter(self.dtypes))
        return (
            {name: np.concatenate([one[name] for one in inputs]) for name in self.dtypes},
            [len(one[name]) for one in inputs],
        )

    def predict(self, inputs: Any) -> Any:
        feeds, rows = inputs if isinstance(inputs, tuple) else (inputs, None)
        return self.session.run(self.names, feeds), rows

    def unbatch(self, output: Any) -> list[Any]:
        results, rows = output
        ends = np.cumsum(rows)[:-1]
        parts = [np.split(array, ends) for array in results]
        return [(list(arrays), None) for arrays in zip(*parts, strict=True)]

    def encode_response(self, output: Any) -> dict[str, Any]:
        names = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64", np.dtype(np.uint8): "UINT8"}
        outputs = [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": names[array.dtype],
                "data": array.ravel().tolist(),
            }
            for name, array in zip(self.names, output[0], strict=True)
        ]
        return {"model_name": self.name, "outputs": outputs}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--delay", type=float, default=0.001, help="seconds that a batch waits for more rows")
    arguments = parse(options)
    batching = arguments.max_batch > 1
    api = OnnxApi(
        str(arguments.model),
        arguments.name,
        arguments.threads,
        max_batch_size=arguments.max_batch,
        batch_timeout=arguments.delay if batching else 0.0,
    )
    server = litserve.LitServer(api, accelerator="cpu", healthcheck_path="/v2/health/ready", fast_queue=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which ends its processes; SIGTERM by itself does not
    server.run(
        host="127.0.0.1", port=arguments.port, num_api_servers=1, generate_client_file=False, log_level="warning"
    )


if __name__ == "__main__":
    main()
