"""SSD300 and Faster R-CNN as ONNX: nodes against the traced graph, latency against PyTorch, seconds to export.

Both sides of the latency are the served form, from pixels to boxes, at batch 1 with the same number of threads. The
nodes of the traced graph are those that the tracing exporter made of torchvision's networks where they were measured;
that of SSD's postprocessing alone is traced by `detection_postprocessing`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from benchmarks.measuring import Result, alternate, medians, paired_ratio, publish, worst
from compiler.export import export
from compiler.module import build
from netspec import load
from netspec.deployed import deployed

TRACED_NODES = {"ssd300_vgg16": 3281, "fasterrcnn_resnet50_fpn": 1984}
IMAGES = {"ssd300_vgg16": (300, 300), "fasterrcnn_resnet50_fpn": (256, 320)}
ROUNDS = {"ssd300_vgg16": 12, "fasterrcnn_resnet50_fpn": 4}
THREADS = 2


def measure() -> list[Result]:
    nodes, latency, seconds, times, counts = {}, {}, {}, {}, {}
    torch.set_num_threads(THREADS)
    for name, traced in TRACED_NODES.items():
        network = load(name)
        module = build(network).eval()
        served = build(deployed(network), weights=module.state_dict()).eval()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export(network, module, path)  # once without a clock: the first one imports
            begun = time.perf_counter()
            export(network, module, path)
            seconds[name] = time.perf_counter() - begun
            counts[name] = len(onnx.load(path, load_external_data=False).graph.node)
            nodes[name] = counts[name] / traced
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = THREADS
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            pixels = np.random.default_rng(0).integers(0, 256, (1, *IMAGES[name], 3), dtype=np.uint8)
            image = torch.from_numpy(pixels)

            def eager(served: torch.nn.Module = served, image: torch.Tensor = image) -> object:
                with torch.inference_mode():
                    return served(image)

            def exported(session: onnxruntime.InferenceSession = session, pixels: np.ndarray = pixels) -> object:
                return session.run(None, {"image": pixels})

            found = alternate({"netspec": exported, "PyTorch": eager}, ROUNDS[name], warm_up=1)
        latency[name] = paired_ratio(found, "netspec", "PyTorch")
        times |= {f"{name}, {side}": value for side, value in medians(found).items()}
    speed = "ONNX Runtime over eager PyTorch, pixels to boxes, batch 1"
    return [
        worst("detection_nodes", "nodes of our graph over the traced one's", nodes, 1 / 5, True, {}, {"nodes": counts}),
        worst("detection_latency", speed, latency, 1.0, True, times, {"threads": THREADS}),
        worst("detection_export", "seconds to export and check", seconds, 1.0, True, {}, {}),
    ]


if __name__ == "__main__":
    publish(measure)
