"""The `train` and `deploy` sections: how a network is trained, and what its served form does around it."""

from collections.abc import Callable
from collections.abc import Mapping as Named
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Argument

from netspec.binding import Refused, bind, if_known
from netspec.choices import (
    L1,
    Adam,
    AdamW,
    Choice,
    Constant,
    Cosine,
    CrossEntropy,
    Data,
    Digits,
    Folder,
    FromZero,
    MeanSquaredError,
    NonNegative,
    Npz,
    Positive,
    Sgd,
    Step,
    Whole,
)
from netspec.data_choices import Augment, Coco, Masks, Scenes, Voc, YoloText
from netspec.detection_choices import FasterRcnn, FastRcnn, RetinaNet, Ssd
from netspec.diagnostics import Diagnostic, Findings, did_you_mean, nearest
from netspec.grid_choices import AnchorFree, YoloV1, YoloV2, YoloV3
from netspec.yaml_reader import Entry, Mapping, Node, Scalar

LOSSES = (CrossEntropy, MeanSquaredError, L1, Ssd, RetinaNet, FastRcnn, FasterRcnn, YoloV1, YoloV2, YoloV3, AnchorFree)
CHOICES: dict[str, dict[str, type[Choice]]] = {
    "data": {choice.kind: choice for choice in (Digits, Folder, Npz, Scenes, Coco, Voc, YoloText, Masks)},
    "loss": {choice.kind: choice for choice in LOSSES},
    "optimizer": {choice.kind: choice for choice in (Sgd, Adam, AdamW)},
    "schedule": {choice.kind: choice for choice in (Constant, Cosine, Step)},
}


class TrainNumbers(BaseModel):
    """The plain settings of `train`.

    `auxiliary` weighs the loss of every output but the first, which is the one that is judged: the auxiliary
    classifiers of Szegedy et al. 2014, section 5. The held-out samples are evaluated every `evaluate` epochs, and after
    the last.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)

    epochs: Whole = 10
    batch_size: Whole = 32
    seed: FromZero = 0
    auxiliary: dict[str, NonNegative] = {}
    evaluate: Whole = 1


class Train(BaseModel):
    """How a network is trained."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    data: Data
    loss: Choice = CrossEntropy()
    optimizer: Choice = AdamW(lr=1e-3)
    schedule: Choice = Constant()
    augment: Augment | None = None
    numbers: TrainNumbers = TrainNumbers()


UpToOne = Annotated[float, Argument(ge=0, le=1)]
PerChannel = float | tuple[float, ...]
PositivePerChannel = Positive | tuple[Positive, ...]


class Preprocess(BaseModel):
    """From an image's pixels to the input: laid onto it by `fit`, then (pixel/255 − mean)/std for each channel.

    `fit` is one of those of `netspec.ops.imaging.Fitting`; without one, an image is stretched to the input's size.
    `pixels` says whether all this stands in the exported graph, which then takes pixels of images of any size.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)

    mean: PerChannel = 0.0
    std: PositivePerChannel = 1.0
    resize: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    fit: Literal["none", "stretch", "letterbox", "shortest"] = "stretch"
    size: Whole | tuple[Whole, Whole] | None = None
    shortest: Whole | None = None
    longest: Whole | None = None
    multiple: Whole = 1
    fill: UpToOne = 0.5
    pixels: bool | None = None


LAYERS = ("net", "outputs")  # of `deploy`: the layers that only the served form has, and what they give


class Deploy(BaseModel):
    """What the served network does beyond the trained one; it travels in the ONNX file."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    preprocess: Preprocess | None = None
    postprocess: Literal["softmax", "none"] | None = None
    labels: tuple[str, ...] = ()


def read_train(entry: Entry | None, scope: dict[str, Any], findings: Findings) -> Train | None:
    """The `train` section, checked; None where there is none or it is wrong."""
    section = _mapping(entry, findings, "train")
    if entry is None or section is None:
        return None
    names = [*CHOICES, "augment", *TrainNumbers.model_fields]
    numbers: dict[str, Entry] = {}
    parts: dict[str, Callable[[], Any]] = {}
    meant: set[str | None] = set()  # keys that a mistyped one stands for
    for key, item in section.entries.items():
        if key in CHOICES:
            parts[key] = partial(_choice, key, item, CHOICES[key], scope)
        elif key == "augment":
            parts[key] = partial(_augment, item, scope)
        elif key in TrainNumbers.model_fields:
            numbers[key] = item
        else:
            meant.add(nearest(key, names))
            help = did_you_mean(key, names)
            findings.add(Diagnostic("unknown-key", f"`train` has no `{key}`", item.key.span, help=help))
    parts["numbers"] = lambda: bind(TrainNumbers, numbers, scope, "`train`", entry.key.span)
    values = _collect(parts, findings)
    optimizer = values.get("optimizer")
    if isinstance(optimizer, Sgd) and optimizer.nesterov and not optimizer.momentum:
        span = section.entries["optimizer"].value.span
        findings.add(Diagnostic("out-of-range", "`nesterov` needs a `momentum`", span, help="add `momentum: 0.9`"))
    if "data" not in parts and "data" not in meant:
        help = "add `data: digits`, `data: {folder: …}` or `data: {npz: …}`"
        findings.add(Diagnostic("missing-argument", "`train` does not say on what data", entry.key.span, help=help))
    return None if findings.failed else Train.model_construct(**values)


def _collect(parts: Named[str, Callable[[], Any]], findings: Findings) -> dict[str, Any]:
    """The parts of a section that can be had; what is wrong with the others is told."""
    values: dict[str, Any] = {}
    for key, read in parts.items():
        value = if_known(read, findings.add)
        if value is not None:
            values[key] = value
    return values


def _choice(key: str, entry: Entry, choices: dict[str, type[Choice]], scope: dict[str, Any]) -> Choice:
    node = entry.value
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return bind(_chosen(key, node, choices), {}, scope, f"`{node.text}`", node.span)
    if not isinstance(node, Mapping):
        help = f"write `{key}: {next(iter(choices))}`"
        raise Refused(Diagnostic("wrong-type", f"`{key}` takes a word or a mapping", node.span, help=help))
    kinds = [item for name, item in node.entries.items() if name in choices]
    if len(kinds) != 1:
        if kinds:
            message = f"`{key}` takes one of `{kinds[0].key.text}` and `{kinds[1].key.text}`"
            raise Refused(Diagnostic("two-kinds", message, kinds[1].key.span))
        first = next(iter(node.entries.values()), None)
        raise Refused(_unknown_choice(key, first.key if first else entry.key, choices))
    kind = kinds[0].key
    model = choices[kind.text]
    rest = {name: item for name, item in node.entries.items() if name != kind.text}
    value = kinds[0].value
    given = not (isinstance(value, Scalar) and value.value is None)
    primary = next(iter(model.model_fields), None)
    if given and primary is None:
        raise Refused(Diagnostic("unknown-argument", f"`{kind.text}` takes no arguments", value.span))
    return bind(
        model, rest, scope, f"`{kind.text}`", kind.span, (primary, value, kind.span) if given and primary else None
    )


def _chosen(key: str, node: Scalar, choices: dict[str, type[Choice]]) -> type[Choice]:
    if node.text not in choices:
        raise Refused(_unknown_choice(key, node, choices))
    return choices[node.text]


def _unknown_choice(key: str, node: Scalar, choices: dict[str, type[Choice]]) -> Diagnostic:
    return Diagnostic(
        "unknown-choice", f"`{node.text}` is no {key} that is known", node.span, help=did_you_mean(node.text, choices)
    )


def _augment(entry: Entry, scope: dict[str, Any]) -> Augment:
    if not isinstance(entry.value, Mapping):
        help = "write `augment: {flip: 0.5, scale: [0.8, 1.2]}`"
        raise Refused(Diagnostic("wrong-type", "`augment` takes a mapping", entry.value.span, help=help))
    return bind(Augment, entry.value.entries, scope, "`augment`", entry.key.span)


def _mapping(entry: Entry | None, findings: Findings, name: str) -> Mapping | None:
    if entry is None:
        return None
    if isinstance(entry.value, Mapping):
        return entry.value
    findings.add(Diagnostic("wrong-type", f"`{name}` takes a mapping", entry.value.span))
    return None


def read_deploy(entry: Entry | None, scope: dict[str, Any], findings: Findings) -> Deploy | None:
    """The `deploy` section, checked; None where there is none or it is wrong."""
    section = _mapping(entry, findings, "deploy")
    if entry is None or section is None:
        return None
    parts = {
        key: partial(_deploy_part, key, item, scope)
        for key, item in section.entries.items()
        if key not in LAYERS or "net" not in section.entries  # those are layers, which the elaboration reads
    }
    values = _collect(parts, findings)
    return None if findings.failed else Deploy.model_construct(**values)


def _deploy_part(key: str, entry: Entry, scope: dict[str, Any]) -> Any:
    node: Node = entry.value
    if key == "preprocess":
        if not isinstance(node, Mapping):
            help = "write `preprocess: {mean: 0.5, std: 0.5}`"
            raise Refused(Diagnostic("wrong-type", "`preprocess` takes a mapping", node.span, help=help))
        return bind(Preprocess, node.entries, scope, "`preprocess`", entry.key.span)
    if key == "postprocess":
        if not isinstance(node, Scalar) or node.text not in ("softmax", "none"):
            raise Refused(Diagnostic("wrong-type", "`postprocess` is `softmax` or `none`", node.span))
        return node.text
    if key == "labels":
        if isinstance(node, Mapping | Scalar) or not all(isinstance(item, Scalar) for item in node.items):
            raise Refused(Diagnostic("wrong-type", "`labels` takes a list of names", node.span))
        return tuple(item.text for item in node.items if isinstance(item, Scalar))
    help = did_you_mean(key, (*Deploy.model_fields, *LAYERS))
    if key == "outputs":
        help = "name what the served form gives where it has layers of its own: `net: {…}`"
    raise Refused(Diagnostic("unknown-key", f"`deploy` has no `{key}`", entry.key.span, help=help))
