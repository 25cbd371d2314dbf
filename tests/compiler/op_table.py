"""One row or a few for each op: a layer as it is written in a spec, and the shapes that it reads.

Every generic test of `test_ops.py` runs on every row.
"""

from __future__ import annotations

from typing import NamedTuple

IMAGE = "[N, 4, H, W]"
SEQUENCE = "[N, 4, L]"
VOLUME = "[N, 4, D, H, W]"
VECTOR = "[N, 12]"


class Row(NamedTuple):
    """`layer` reads inputs called `x`, or `a`, `b` and `c`; where it needs another type, a layer `before` reads `x`.

    Of a layer with several results, a layer `after` brings some together.
    """

    layer: str
    inputs: dict[str, str]
    before: str = ""
    after: str = ""

    @property
    def net(self) -> list[str]:
        before = [f"before: {self.before}"] if self.before else []
        return [*before, f"layer: {self.layer}", *([f"after: {self.after}"] if self.after else [])]

    @property
    def id(self) -> str:
        return f"{self.layer} of {' '.join(self.inputs.values())}".replace("[", "").replace("]", "")


def on(shape: str, *layers: str) -> list[Row]:
    return [Row(layer, {"x": shape}) for layer in layers]


ROWS = [
    Row("{concat: [a, b], axis: -1}", {"a": "[N, T, 4]", "b": "[N, T, 3]"}),
    Row("{split: [left, right]}", {"x": IMAGE}, after="{concat: [layer.right, layer.left]}"),
    Row("{split: [a, b, c], sizes: [1, 7, 4], axis: -1}", {"x": "[N, T, 12]"}, after="{scale: 2.0, from: layer.b}"),
    *on(
        IMAGE,
        "{conv: 8, kernel: 3}",
        "{conv: 8, kernel: 5, stride: 2, padding: 2}",
        "{conv: 6, kernel: [3, 1], stride: [2, 1], padding: [1, 0], bias: false}",
        "{conv: 8, kernel: 3, padding: same, dilation: 2}",
        "{conv: 8, kernel: 4, padding: same}",
        "{conv: 8, kernel: 3, groups: 4}",
        "{conv: 4, kernel: 1, groups: 2, bias: false}",
        "{conv: 6, kernel: 3, stride: 2, padding: [[0, 1], [2, 1]]}",
        "{conv: 6, kernel: 3, padding: [1, [0, 2]]}",
        "{conv: 6, kernel: 3, stride: 2, padding: same}",
        "{conv: 6, kernel: [4, 1], stride: [3, 2], padding: same}",
        "{conv: 6, kernel: [3, 2], stride: [2, 3], padding: same, dilation: 2}",
        "{conv_transpose: 6, kernel: 2, stride: 2}",
        "{conv_transpose: 6, kernel: 3, stride: 2, padding: 1, output_padding: 1, bias: false}",
        "{conv_transpose: 4, kernel: [3, 2], stride: [1, 3], padding: [1, 0], dilation: [2, 1], groups: 2}",
        "{conv_transpose: 4, kernel: 4, stride: 2, padding: 1, init: bilinear}",
    ),
    *on(
        "[N, 4, 13, 9]",
        "{conv: 6, kernel: 3, stride: 2, padding: same}",
        "{conv: 6, kernel: 2, stride: 3, padding: same}",
        "{conv: 6, kernel: 3, stride: 2, padding: same, dilation: 2}",
    ),
    *on(SEQUENCE, "{conv: 6, kernel: 2, padding: [[1, 0]]}", "{conv_transpose: 6, kernel: 3, stride: 2}"),
    *on(VOLUME, "{conv: 3, kernel: 2, padding: [1, [0, 1], 0]}", "{conv_transpose: 3, kernel: 2, stride: [1, 2, 1]}"),
    *on(SEQUENCE, "{conv: 6, kernel: 3, dilation: 3, padding: 3}"),
    *on(VOLUME, "{conv: 3, kernel: 3, padding: 1, stride: 2}"),
    *on(
        IMAGE,
        "{maxpool: 2}",
        "{maxpool: 3, stride: 2, padding: 1}",
        "{maxpool: 3, stride: 2, ceil: true}",
        "{maxpool: [2, 3], stride: [1, 2]}",
        "{avgpool: 2}",
        "{avgpool: 3, stride: 2, padding: 1}",
        "{avgpool: 3, stride: 2, padding: 1, count_padding: false}",
        "{avgpool: 3, stride: 2, ceil: true}",
        "{maxpool: 3, stride: 2, padding: [[0, 1], [1, 0]]}",
        "{maxpool: 3, stride: 2, padding: [[1, 0], [0, 1]], ceil: true}",
        "{avgpool: 3, stride: 2, padding: [[0, 1], [1, 0]]}",
        "{avgpool: 3, stride: 2, padding: [0, [1, 0]], count_padding: false}",
        "global_avgpool",
        "flatten",
    ),
    *on(SEQUENCE, "{maxpool: 2}", "{avgpool: 3, stride: 1}", "global_avgpool"),
    *on(VOLUME, "{maxpool: 2}", "{avgpool: 2}", "global_avgpool"),
    *on(VECTOR, "{linear: 5}", "{linear: 5, bias: false}"),
    *on("[N, T, 12]", "{linear: 5}", "{linear: 5, bias: false}"),
    *on(IMAGE, "batchnorm", "{batchnorm: 1e-3, momentum: 0.2}", "{batchnorm: 1e-5, affine: false}"),
    *on(VECTOR, "batchnorm"),
    *on(SEQUENCE, "batchnorm"),
    *on(VOLUME, "batchnorm"),
    *on(
        IMAGE, "relu", "leaky_relu", "{leaky_relu: 0.2}", "sigmoid", "tanh", "gelu", "silu", "softmax", "{softmax: -1}"
    ),
    *on(IMAGE, "relu6", "elu", "{elu: 0.5}", "selu", "softplus", "mish", "hardsigmoid", "hardswish"),
    *on(IMAGE, "prelu", "{prelu: 0.1, per_channel: true}"),
    *on(VECTOR, "relu", "softmax", "{prelu: 0.1, per_channel: true}"),
    *on(IMAGE, "instancenorm", "{instancenorm: 1e-3, affine: true}", "{groupnorm: 2}", "{groupnorm: 4, affine: false}"),
    *on(SEQUENCE, "instancenorm", "{groupnorm: 2}"),
    *on("[N, T, 12]", "layernorm", "{layernorm: 1, affine: false}"),
    *on("[N, T, 3, 4]", "{layernorm: 2, eps: 1e-3}"),
    *on(IMAGE, "{lrn: 3}", "{lrn: 5, alpha: 0.1, beta: 0.5, k: 2.0}"),
    *on(IMAGE, "global_maxpool", "{adaptive_avgpool: 3}", "{adaptive_avgpool: [2, 5]}", "{adaptive_avgpool: 20}"),
    *on(SEQUENCE, "global_maxpool", "{adaptive_avgpool: 4}"),
    *on(VOLUME, "{adaptive_avgpool: [2, 3, 4]}"),
    *on(IMAGE, "{channel_dropout: 0.2}", "{stochastic_depth: 0.2}"),
    *on(IMAGE, "dropout", "{dropout: 0.2}", "identity"),
    *on(
        IMAGE,
        "{upsample: 2}",
        "{upsample: [3, 2], mode: bilinear}",
        "{upsample: 2, mode: bilinear, align_corners: true}",
        "{upsample: 2, mode: bicubic}",
        "{upsample: 3, mode: bicubic, align_corners: true}",
        "{upsample: 41}",
        "{resize: [20, 6]}",
        "{resize: 7, mode: bilinear}",
        "{resize: [25, 1], mode: bilinear, align_corners: true}",
        "{resize: [13, 30], mode: bicubic}",
        "{pixel_shuffle: 2}",
    ),
    *on("[N, 3, 2, 3]", "{resize: [82, 246]}"),
    *on("[N, 3, 12, 6]", "{pixel_unshuffle: 3}"),
    *on(SEQUENCE, "{upsample: 3}", "{upsample: 2, mode: linear}", "{resize: 5, mode: linear}", "{resize: 30}"),
    *on(VOLUME, "{upsample: 2}", "{upsample: [2, 1, 3], mode: trilinear}", "{resize: [3, 4, 20], mode: trilinear}"),
    Row("{resize_like: [a, b]}", {"a": IMAGE, "b": "[N, 2, T, L]"}),
    Row("{resize_like: [a, b], mode: bilinear}", {"a": "[N, 4, 3, 4]", "b": "[N, 2, H, W]"}),
    Row("{resize_like: [before, x]}", {"x": IMAGE}, before="{maxpool: 1, stride: 2}"),
    *on(IMAGE, "{reshape: [4, -1]}", "{reshape: [-1]}", "{reshape: [-1, 0, 0]}", "{reshape: [2, -1, 2, 1]}"),
    *on("[N, T, 12]", "{reshape: [0, 3, 4]}", "{reshape: [-1, 6]}", "{permute: [2, 1]}"),
    *on(IMAGE, "{permute: [2, 3, 1]}", "{permute: [1, 3, 2]}", "{channel_shuffle: 2}"),
    *on(
        IMAGE,
        "{slice: 1, start: 1, stop: 3}",
        "{slice: 2, start: -5}",
        "{slice: -1, stop: -2, step: 3}",
        "{slice: 3, start: -7, stop: -1, step: 2}",
        "{pad: 1}",
        "{pad: [[1, 2], [0, 3]], value: 0.5}",
        "{pad: [2, [1, 0]], mode: reflect}",
        "{pad: [[0, 2], 1], mode: replicate}",
        "{pad: [[3, 2], 1], mode: circular}",
    ),
    *on(SEQUENCE, "{pad: [[2, 0]]}", "{pad: 3, mode: reflect}", "{slice: 2, start: 1, step: 2}"),
    *on(VOLUME, "{pad: [1, [0, 1], 2], mode: replicate}"),
    Row("{crop_like: [a, b]}", {"a": "[N, 4, 20, 19]", "b": IMAGE}),
    Row("{crop_like: [a, b], offset: [1, 2]}", {"a": "[N, 4, 20, 19]", "b": IMAGE}),
    Row("{cast: float32}", {"x": VECTOR}, before="{cast: int32}"),
    Row("{cast: bool}", {"x": VECTOR}),
    *on(
        IMAGE,
        "{mean: [2, 3]}",
        "{mean: 1, keepdim: true}",
        "{sum: [-1]}",
        "{max: [1, 2, 3]}",
        "{min: 3, keepdim: true}",
        "{scale: 0.5}",
        "{scale: 2, shift: -1.5}",
    ),
    Row("{embedding: 10, features: 6}", {"x": "[N, T]"}, before="{cast: int64}"),
    Row("{embedding: 10, features: 3, padding: 0}", {"x": "[N, H, W]"}, before="{cast: int32}"),
    *on("[N, T, 12]", "{parameter: [1, 12]}", "{parameter: [5], mean: 1.0, std: 0}"),
    *on(IMAGE, "{constant: [0.5, -1, 2], shape: [3, 1, 1]}", "{constant: 0.5, shape: [2, 3]}", "{constant: [1, 2]}"),
    *on("[N, T, 12]", "{attention: 3}", "{attention: 4, bias: false, causal: true, dropout: 0.1}"),
    Row("{attention: 2, from: [a, b]}", {"a": "[N, T, 12]", "b": "[N, L, 12]"}),
    Row("{attention: 2, from: [a, b], causal: true}", {"a": "[N, T, 12]", "b": "[N, L, 12]"}),
    Row("{attention: 6, from: [a, b, c], bias: false}", {"a": "[N, T, 12]", "b": "[N, 4, 12]", "c": "[N, 4, 12]"}),
    *on(IMAGE, "{gelu: tanh}", "{hardtanh: -0.5}", "celu", "{celu: 0.5}", "softsign", "log_sigmoid", "log_softmax"),
    *on(IMAGE, "{glu: 1}", "alpha_dropout", "{stochastic_depth: 0.2, mode: batch}"),
    *on("[N, T, 12]", "{log_softmax: -1}", "{glu: -1}"),
    *on(
        IMAGE,
        "{lppool: 2}",
        "{lppool: 3, stride: 2, padding: 1, ceil: true, p: 3}",
        "{lppool: [2, 3], padding: [[0, 1], 0], p: 1}",
        "{adaptive_maxpool: 3}",
        "{adaptive_maxpool: [2, 20]}",
    ),
    *on(SEQUENCE, "{lppool: 3, stride: 2, ceil: true}", "{adaptive_maxpool: 4}"),
    *on(VOLUME, "{lppool: 2}", "{adaptive_maxpool: [1, 2, 3]}"),
    Row("{subtract: [a, b]}", {"a": IMAGE, "b": "[N, 4, 1, 1]"}),
    Row("{divide: [a, b]}", {"a": "[N, 1, T]", "b": "[N, 4, T]"}),
    Row("{maximum: [a, b, c]}", {"a": VECTOR, "b": VECTOR, "c": VECTOR}),
    Row("{minimum: [a, b]}", {"a": IMAGE, "b": IMAGE}),
    Row("{matmul: [a, b]}", {"a": "[N, T, 12]", "b": "[N, 12, L]"}),
    Row("{matmul: [a, b], transpose_second: true}", {"a": "[N, 3, T, 12]", "b": "[N, 1, L, 12]"}),
    Row("{matmul: [a, b], transpose_first: true}", {"a": "[N, 12, T]", "b": "[N, 12, 5]"}),
    Row("{add: [a, b]}", {"a": IMAGE, "b": IMAGE}),
    Row("{add: [a, b, c]}", {"a": VECTOR, "b": VECTOR, "c": VECTOR}),
    Row("{add: [a, a]}", {"a": VECTOR}),
    Row("{multiply: [a, b]}", {"a": IMAGE, "b": "[N, 4, 1, 1]"}),
    Row("{multiply: [a, b, c]}", {"a": VECTOR, "b": VECTOR, "c": VECTOR}),
    Row("{concat: [a, b]}", {"a": IMAGE, "b": "[N, 3, H, W]"}),
    Row("{concat: [a, b, c], axis: 2}", {"a": SEQUENCE, "b": SEQUENCE, "c": SEQUENCE}),
    Row(
        "{roi_align: 3, strides: [2], from: [a, before]}",
        {"a": IMAGE, "b": "[N, 5, 4]"},
        before="{scale: 2.7, shift: -1.3, from: b}",
    ),
    Row(
        "{roi_align: [2, 3], strides: [1, 2, 4], sampling: 3, aligned: true, canonical_size: 8, canonical_level: 1, "
        "from: [a, b, c, before]}",
        {"a": "[N, 4, 16, 12]", "b": "[N, 4, 8, 6]", "c": "[N, 4, 4, 3]", "d": "[N, P, 4]"},
        before="{scale: 2.7, shift: -1.3, from: d}",
    ),
    Row(
        "{roi_pool: [3, 2], stride: 2, from: [a, before]}",
        {"a": IMAGE, "b": "[N, P, 4]"},
        before="{scale: 2.7, shift: -1.3, from: b}",
    ),
    *on(IMAGE, "{spatial_pyramid_pool: [3, 2, 1]}", "{l2norm: 1}", "{l2norm: -1, eps: 0.5}"),
    *on("[N, 4, 13, 7]", "{spatial_pyramid_pool: [4, 3, 1]}", "{adaptive_maxpool: [5, 3]}"),
    *on("[N, T, 4, H]", "fold_batch"),
    Row("{unfold_batch: [before, x]}", {"x": "[N, T, 4, H]"}, before="fold_batch"),
    *on("[N, 4, H, W]", "argmax", "{argmax: -1}"),
    Row(
        "{yolo: 3, anchors: [[3, 4], [5.5, 2]], stride: 8}",
        {"x": "[N, 16, H, W]"},
        after="{concat: [layer.raw, layer.boxes, layer.scores], axis: 2}",
    ),
    Row(
        "{yolo: 1, anchors: [[3, 4]], stride: 4, scores: softmax}",
        {"x": "[N, 6, 3, 2]"},
        after="{concat: [layer.raw, layer.boxes, layer.scores], axis: 2}",
    ),
    Row(
        "{yolo_grid: 3, grid: 2, boxes: 2, from: [a, b]}",
        {"a": "[N, 52]", "b": "[N, 1, H, W]"},
        after="{concat: [layer.boxes, layer.scores], axis: 2}",
    ),
    Row("{distances: 5, stride: 8}", {"x": "[N, 20, H, W]"}, after="{concat: [layer.raw, layer.boxes], axis: 2}"),
    Row("{distances: 1, stride: 4}", {"x": "[N, 4, H, 3]"}, after="{concat: [layer.raw, layer.boxes], axis: 2}"),
    Row("{anchors: [4, [3, 5.5]], strides: [2, 4], ratios: [0.5, 1], from: [a, b]}", {"a": IMAGE, "b": "[N, 3, D, T]"}),
    Row("{anchors: [[8, 16]], strides: [3], rounded: false}", {"x": "[N, 4, 5, 3]"}),
    Row(
        "{default_boxes: [0.2, 0.5, 0.9], ratios: [[2], [2, 3]], strides: [2, 4], from: [a, b, c]}",
        {"a": IMAGE, "b": "[N, 3, D, T]", "c": "[N, 3, L, W]"},
    ),
    Row(
        "{default_boxes: [0.5, 1.1], ratios: [[]], strides: [8], from: [a, b]}",
        {"a": "[N, 2, 3, 2]", "b": "[N, 3, 24, 16]"},
    ),
    *on("[N, 12, H, W]", "{per_box: 4}", "{per_box: 1}"),
    Row("{per_box: 3, from: [a, b]}", {"a": "[N, 6, H, W]", "b": "[N, 9, D, T]"}),
    Row("{decode_boxes: [a, b]}", {"a": "[N, T, 4]", "b": "[N, T, 4]"}),
    Row("{decode_boxes: [a, b], offset_weights: [10, 10, 5, 5], clip: 1.5}", {"a": "[N, T, 12]", "b": "[N, T, 4]"}),
    Row("{clip_boxes: [before, b]}", {"a": "[N, T, 4]", "b": IMAGE}, before="{scale: 9, from: a}"),
    Row("{clip_boxes: [before, b]}", {"a": "[N, T, 3, 4]", "b": "[N, 1, 5, 7]"}, before="{scale: 9, from: a}"),
    *(
        Row(
            f"{{nms: 0.3, {rest}, from: [a, b]}}", {"a": boxes, "b": "[N, L, 4]"}, after="{scale: 2, from: layer.boxes}"
        )
        for boxes in ("[N, L, 4]", "[N, L, 4, 4]")
        for rest in (
            "score: 0.1, detections: 7",
            "score: -0.5, detections: 30, candidates: 6, background: true",
            "score: 0.2, detections: 60, agnostic: true, min_size: 0.5",
            "score: -0.2, detections: 5, agnostic: true, candidates: 8, background: true, min_size: 0.2",
            "score: 9, detections: 3",
        )
    ),
    Row(
        "{nms: 0.1, score: 0, detections: 4, candidates: 9, from: [a, b]}",
        {"a": "[N, 11, 4]", "b": "[N, 11, 2]"},
        after="{scale: 1, from: layer.scores}",
    ),
    Row("{proposals: 6, candidates: 8, iou: 0.2, from: [a, b]}", {"a": "[N, L, 1]", "b": "[N, L, 4]"}),
    Row("{proposals: 20, candidates: 8, iou: 0.2, min_size: 0.4, from: [a, b]}", {"a": "[N, 9, 2]", "b": "[N, 9, 4]"}),
    Row(
        "{proposals: 12, candidates: 7, iou: 0.1, from: [a, b, c, d]}",
        {"a": "[N, L, 1]", "b": "[N, T, 1]", "c": "[N, L, 4]", "d": "[N, T, 4]"},
    ),
    Row(
        "{proposals: 9, candidates: 7, iou: 0.1, from: [a, b, c, d]}",
        {"a": "[N, 9, 1]", "b": "[N, 5, 2]", "c": "[N, 9, 4]", "d": "[N, 5, 4]"},
    ),
    Row(
        "{proposals: 12, candidates: 7, iou: 0.1, from: [a, b, c, before]}",
        {"a": "[N, L, 1]", "b": "[N, T, 2]", "c": "[N, D, 1]", "d": "[N, L, 4]", "e": "[N, T, 4]", "f": "[N, D, 4]"},
        before="{concat: [d, e, f], axis: 1}",
    ),
    Row(
        "{proposals: 12, candidates: 7, iou: 0.1, from: [a, b, c, d]}",
        {"a": "[N, 9, 1]", "b": "[N, 5, 1]", "c": "[N, 3, 1]", "d": "[N, 17, 4]"},
    ),
]
