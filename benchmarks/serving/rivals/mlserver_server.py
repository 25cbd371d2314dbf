"""MLServer with a runtime of one's own, and its adaptive batching."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from hosted import open_session, parse, parser
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        parameters = self.settings.parameters
        self.session = open_session(Path(parameters.uri), parameters.extra["threads"])
        self.names = [output.name for output in self.session.get_outputs()]
        self.types = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(uint8)": "uint8"}
        self.dtypes = {one.name: self.types[one.type] for one in self.session.get_inputs()}
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds = {
            one.name: NumpyCodec.decode_input(one).astype(self.dtypes[one.name], copy=False) for one in payload.inputs
        }
        results = self.session.run(self.names, feeds)
        outputs = [NumpyCodec.encode_output(name, array) for name, array in zip(self.names, results, strict=True)]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


async def serve() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--workers", type=int, default=0, help="processes for inference; 0 for the server's own")
    options.add_argument("--delay", type=float, default=0.001, help="seconds that a batch waits for more rows")
    arguments = parse(options)
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=arguments.port,
        grpc_port=0,
        metrics_endpoint=None,
        parallel_workers=arguments.workers,
        gzip_enabled=False,
        load_models_at_startup=False,
    )
    batching = arguments.max_batch > 1
    model = ModelSettings(
        name=arguments.name,
        implementation=OnnxModel,
        max_batch_size=arguments.max_batch if batching else 0,
        max_batch_time=arguments.delay if batching else 0,
        parameters=ModelParameters(uri=os.fspath(arguments.model), extra={"threads": arguments.threads}),
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    import uvloop

    uvloop.install()
    asyncio.run(serve())
