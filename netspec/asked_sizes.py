"""Sizes asked for from outside, `--input image=1x3x200x264`, in place of the spec's `sizes`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from netspec.diagnostics import Diagnostic, SpecError, did_you_mean
from netspec.dims import Sym, evaluate, symbols
from netspec.network import Network
from netspec.source import Source, Span
from netspec.tensor import write_shape

_SHAPE = re.compile(r"[0-9]+(?:[x×,][0-9]+)*\Z")
LARGEST = 2**31 - 1
AskedSizes = dict[str, tuple[tuple[int, ...], Span]]  # shapes by input, each with its place


def parse_sizes(settings: Iterable[str]) -> AskedSizes:
    """The shapes asked for, by the input's name; "" where none is named.

    Raises:
        SpecError: one is no shape, or an input is given two.
    """
    asked: AskedSizes = {}
    for setting in settings:
        name, equals, text = setting.rpartition("=")
        name, text = name.strip(), text.strip()
        span = Span(Source("--input", setting), 1, 1, 1, len(setting) + 1)
        help = "write the input's name and its shape, batch first: `--input image=1x3x200x264`"
        if not _SHAPE.match(text) or (equals and not name):
            raise SpecError([Diagnostic("bad-setting", f"`{setting}` gives no shape", span, help=help)])
        shape = tuple(int(size) for size in re.split("[x×,]", text))
        if not all(1 <= size <= LARGEST for size in shape):
            raise SpecError([Diagnostic("bad-setting", "a size is at least 1, and at most 2,147,483,647", span)])
        if name in asked:
            raise SpecError([Diagnostic("bad-setting", f"the input `{name}` is given two shapes", span)])
        asked[name] = (shape, span)
    return asked


def ask(network: Network, settings: Iterable[str]) -> None:
    """Sets the network's `sizes` to what is asked for.

    Raises:
        SpecError: a setting is no shape, there is no such input, or the shape isn't one that it takes.
    """
    sizes: dict[str, int] = {}
    for given, (shape, span) in parse_sizes(settings).items():
        name = given or network.inputs[0]
        if name not in network.inputs or (not given and len(network.inputs) > 1):
            known = ", ".join(f"`{known}`" for known in network.inputs)
            message = f"there is no input `{name}`" if given else "the network has several inputs, and none is named"
            help = did_you_mean(given, network.inputs) if given else ""
            raise SpecError([Diagnostic("bad-setting", message, span, help=help or f"its inputs are {known}")])
        declared = network.layer(name)["output"].shape
        wanted = f"`{name}` is {write_shape(declared)}"
        if len(shape) != len(declared):
            message = f"{len(shape)} sizes are given, and {wanted}"
            help = "the batch comes first" if len(shape) == len(declared) - 1 else ""
            raise SpecError([Diagnostic("bad-setting", message, span, help=help)])
        for size, dim in zip(shape, declared, strict=True):
            if isinstance(dim, Sym):
                (symbol,) = symbols(dim)
                if sizes.setdefault(symbol, size) != size:
                    message = f"`{symbol}` can't be both {sizes[symbol]} and {size}"
                    raise SpecError([Diagnostic("bad-setting", message, span)])
            elif evaluate(dim, {}) != size:
                raise SpecError([Diagnostic("bad-setting", f"{size} doesn't fit: {wanted}", span)])
    batch = {name for declared in network.inputs for name in symbols(network.layer(declared)["output"].shape[0])}
    network.own_sizes = dict(network.sizes)
    network.sizes.update({name: size for name, size in sizes.items() if name not in batch})
