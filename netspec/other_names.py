"""What the ops are called elsewhere: in PyTorch, Keras, Darknet, Caffe, ONNX and in papers.

A name is looked up in small letters, without `nn.`, underscores, and the number of axes at its end: `nn.Conv2d`,
`Conv2D` and `conv_2d` are all `conv`.
"""

from __future__ import annotations

import re

# By op, or by key of the language.
_OTHERS = {
    "linear": "dense fc fullyconnected innerproduct gemm affine connected",
    "conv": "convolution convolutional convlayer depthwise depthwiseconv dwconv separableconv",
    "conv_transpose": "deconv deconvolution convtransposed transposedconv transposeconv upconv convolutiontranspose",
    "batchnorm": "bn batchnormalization batchnormalisation norm normalization",
    "layernorm": "ln layernormalization layernormalisation",
    "groupnorm": "gn groupnormalization groupnormalisation",
    "instancenorm": "instancenormalization instancenormalisation",
    "lrn": "localresponsenorm localresponsenormalization crosschannelnorm",
    "multiply": "mul prod product times eltwiseproduct",
    "add": "eltwise sumup plus addition",
    "subtract": "sub minus",
    "divide": "div",
    "matmul": "bmm dot mm",
    "concat": "cat concatenate concatenation route",
    "permute": "transpose swapaxes",
    "reshape": "view unflatten",
    "cast": "astype totype",
    "silu": "swish",
    "hardswish": "hswish",
    "hardsigmoid": "hsigmoid",
    "hardtanh": "clip clamp htanh",
    "leaky_relu": "leaky lrelu",
    "relu": "rectifier rectify",
    "sigmoid": "logistic",
    "upsample": "upsampling interpolate unpool unpooling",
    "pixel_shuffle": "depthtospace subpixel",
    "pixel_unshuffle": "spacetodepth reorg passthrough focus",
    "maxpool": "maxpooling pool pooling",
    "avgpool": "averagepool averagepooling avgpooling meanpool meanpooling",
    "global_avgpool": "gap globalaveragepool globalaveragepooling",
    "global_maxpool": "gmp globalmaxpooling",
    "adaptive_avgpool": "adaptiveaveragepool",
    "channel_dropout": "spatialdropout dropout2d dropout3d featuredropout",
    "stochastic_depth": "droppath",
    "attention": "mha multiheadattention selfattention",
    "split": "chunk unbind",
    "pad": "zeropad zeropadding reflectionpad",
    "identity": "noop linearactivation",
    "net": "sequential seq modulelist",
    "parameter": "weight variable",
}
_OPS = {other: op for op, others in _OTHERS.items() for other in (op.replace("_", ""), *others.split())}


def known_elsewhere(word: str) -> str | None:
    """What another tool's name of an op is called here; None where it is no such name."""
    plain = re.sub(r"^nn\.|[_\W]", "", word.lower())
    return _OPS.get(plain) or _OPS.get(re.sub(r"[123]d(?=transpose$|$)|layer$", "", plain))
