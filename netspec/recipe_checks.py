"""Whether `train` and `deploy` fit the network that they are about."""

from __future__ import annotations

from collections.abc import Iterator

from netspec.choices import CrossEntropy
from netspec.data_checks import check_data
from netspec.data_choices import Pictures
from netspec.detection_checks import check_detector, classes_of
from netspec.detection_choices import DetectionLoss
from netspec.diagnostics import Diagnostic, Findings, did_you_mean
from netspec.fit_checks import fit_mistakes
from netspec.network import Network
from netspec.outputs import giver, is_image, shape_of
from netspec.recipe import Deploy, Preprocess, Train
from netspec.sample_checks import sample_mistakes
from netspec.served_checks import mask_mistakes, served_classes
from netspec.source import Span
from netspec.tensor import write_shape
from netspec.yaml_reader import Entry, Mapping


def check_recipe(network: Network, root: Mapping, findings: Findings) -> None:
    """Holds the loss, the labels and the preprocessing against the shapes of the network's inputs and outputs.

    Args:
        root: the spec's tree, for the places.
    """
    train, deploy = network.sections.get("train"), network.sections.get("deploy")
    found: list[Diagnostic] = []
    if train is not None and isinstance(train.loss, CrossEntropy):
        found += _class_scores(network, train, root.entries["train"])
    if train is not None and network.outputs:
        found += check_data(train, root.entries["train"])
        found += sample_mistakes(network, train, root.entries["train"])
        found += _masks(network, train, root.entries["train"])
    if train is not None and isinstance(train.loss, DetectionLoss):
        found += check_detector(network, train.loss, root.entries["train"])
    elif train is not None and network.outputs:
        found += _auxiliary(network, train, root.entries["train"])
    if deploy is not None:
        found += mask_mistakes(network)
        section = root.entries["deploy"].value
        assert isinstance(section, Mapping)
        if deploy.labels:
            found += _labels(network, deploy, train, section)
        if deploy.preprocess is not None:
            entry = section.entries["preprocess"]
            found += _preprocess(network, deploy.preprocess, entry)
            found += fit_mistakes(network, deploy.preprocess, entry)
    for diagnostic in found:
        findings.add(diagnostic)


def _class_scores(network: Network, train: Train, entry: Entry) -> Iterator[Diagnostic]:
    """`cross_entropy` takes scores of classes, of every output: for a sample, or for every pixel of it."""
    if isinstance(train.data, Pictures) and not train.data.has_masks:
        return  # that there is nothing to compare is told elsewhere
    for output in network.outputs:
        wanted, help = "N × classes", "let the network end with `linear: classes`, or write `loss: mse`"
        fits = is_class_scores(network, output)
        if _has_masks(train):
            wanted, help = "N × classes × height × width", "let the network end with `{conv: classes, kernel: 1}`"
            fits = is_score_map(network, output)
        if not fits:
            yield Diagnostic(
                "recipe-mismatch",
                f"`cross_entropy` takes scores, {wanted}, of two classes or more; "
                f"the output `{output}` is {write_shape(shape_of(network, output), network.sizes)}",
                _place_of_loss(entry),
                labels=(giver(network, output),),
                help=help,
            )


def _masks(network: Network, train: Train, entry: Entry) -> Iterator[Diagnostic]:
    """Masks name the class of every pixel of the image, so the scores are of its size."""
    if not _has_masks(train) or not isinstance(train.loss, CrossEntropy):
        return
    places = network.concrete(shape_of(network, network.inputs[0])[2:])
    for output in network.outputs:
        found = network.concrete(shape_of(network, output)[2:])
        if is_score_map(network, output) and found != places:
            sizes = [" × ".join(map(str, size)) for size in (places, found)]
            yield Diagnostic(
                "recipe-mismatch",
                f"masks have {sizes[0]} pixels, as the image has, and the output `{output}` has {sizes[1]} places",
                _place_of_loss(entry),
                labels=(giver(network, output),),
                help=f"bring the scores to the image's size: `{{resize_like: [{output}, {network.inputs[0]}], "
                "mode: bilinear}`",
            )


def _has_masks(train: Train) -> bool:
    return isinstance(train.data, Pictures) and train.data.has_masks


def _place_of_loss(entry: Entry) -> Span:
    """Where `train` says its loss; the section's name where it says none."""
    assert isinstance(entry.value, Mapping)
    loss = entry.value.get("loss")
    return loss.span if loss else entry.key.span


def _auxiliary(network: Network, train: Train, entry: Entry) -> Iterator[Diagnostic]:
    """Every output but the first, which is judged, has a weight in the loss."""
    main, *others = network.outputs
    assert isinstance(entry.value, Mapping)
    given = entry.value.entries.get("auxiliary")
    for name in train.numbers.auxiliary:
        if name not in others:
            assert given is not None and isinstance(given.value, Mapping)
            message = f"`{name}` is no further output" if name != main else f"`{main}` is the output that is judged"
            span = given.value.entries[name].key.span
            help = did_you_mean(name, others) or "weigh the outputs after the first"
            yield Diagnostic("recipe-mismatch", message, span, help=help)
    missing = [name for name in others if name not in train.numbers.auxiliary]
    if missing:
        weights = ", ".join(f"{name}: 0.3" for name in missing)
        message = f"the network has several outputs, and nothing says what the loss of `{missing[0]}` counts"
        help = f"`{main}` is judged; weigh the others: `auxiliary: {{{weights}}}`"
        yield Diagnostic("recipe-mismatch", message, given.key.span if given else entry.key.span, help=help)


def _labels(network: Network, deploy: Deploy, train: Train | None, section: Mapping) -> Iterator[Diagnostic]:
    """One label for each class: every output, where all are taken for scores of classes, else at least one."""
    node = section.entries["labels"].value
    loss = train.loss if train is not None else None
    scores = deploy.postprocess == "softmax" or (deploy.postprocess is None and isinstance(loss, CrossEntropy))
    ranks = (2, 4) if scores or "net" in section.entries else (2,)  # layers of `deploy` make masks of maps
    columns = {name: _classes(network, name) for name in network.outputs if len(shape_of(network, name)) in ranks}
    beside = ""
    if isinstance(loss, DetectionLoss):
        beside = " beside the background" if loss.background else ""
        columns = classes_of(network, loss)
        if not columns:
            return  # of an output that is missing is told elsewhere
    elif not isinstance(loss, CrossEntropy):
        columns = served_classes(network) or columns
    count = len(deploy.labels)
    if not columns:
        message = "`labels` names classes, and no output is N × classes"
        yield Diagnostic("recipe-mismatch", message, node.span, help="remove `labels`")
        return
    wrong = {name: classes for name, classes in columns.items() if classes is not None and classes != count}
    if not wrong or (len(wrong) < len(columns) and not scores):
        return
    output, classes = next(iter(wrong.items()))
    what = "the output" if output in network.outputs else "the layer"
    yield Diagnostic(
        "recipe-mismatch",
        f"`labels` names {count} class{'es' if count > 1 else ''}, {what} `{output}` has {classes}{beside}",
        node.span,
        labels=(giver(network, output),),
        help=f"give {classes} names, in the order of the columns, or `labels: []` for none",
    )


def _preprocess(network: Network, steps: Preprocess, entry: Entry) -> Iterator[Diagnostic]:
    """One mean and one standard deviation for each channel, where they are lists."""
    images = [name for name in network.inputs if is_image(network, name)]
    if not images:
        message = "`preprocess` is for images, and no input is N × 1 or 3 × height × width"
        yield Diagnostic(
            "recipe-mismatch", message, entry.key.span, help="remove `preprocess`: arrays go in as they are"
        )
    assert isinstance(entry.value, Mapping)
    for name in images:
        channels = shape_of(network, name)[1]
        for key in ("mean", "std"):
            values = getattr(steps, key)
            if isinstance(values, tuple) and len(values) != channels:
                numbers = f"{len(values)} number{'' if len(values) == 1 else 's'}"
                yield Diagnostic(
                    "recipe-mismatch",
                    f"`{key}` has {numbers}, the input `{name}` has {channels} channel{'' if channels == 1 else 's'}",
                    entry.value.entries[key].value.span,
                    labels=(giver(network, name),),
                    help="give one number for each channel, or one for all: no list",
                )


def is_class_scores(network: Network, output: str) -> bool:
    """Whether an output is N × classes, of two or more."""
    return len(shape_of(network, output)) == 2 and (_classes(network, output) or 0) > 1


def is_score_map(network: Network, output: str) -> bool:
    """Whether an output is N × classes × height × width, of two or more."""
    return len(shape_of(network, output)) == 4 and (_classes(network, output) or 0) > 1


def _classes(network: Network, output: str) -> int | None:
    """The columns or channels of an output; None where they are not known."""
    count = shape_of(network, output)[1]
    return count if isinstance(count, int) else None
