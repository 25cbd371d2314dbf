"""`--set name=value`: values from the command line in place of those in the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netspec.diagnostics import Diagnostic, SpecError, did_you_mean
from netspec.source import Source, Span
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, parse

# Sections whose keys may be set too, as in `train.epochs=5`.
SETTABLE_SECTIONS = ("train", "deploy")


@dataclass(slots=True, eq=False)
class Override:
    """One setting: the path of names before `=`, and the value after it."""

    path: tuple[str, ...]
    key: Scalar
    value: Node


def parse_overrides(settings: Iterable[str]) -> list[Override]:
    """The settings, taken apart.

    Raises:
        SpecError: one is not `name=value`, or its value is not YAML.
    """
    overrides = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        name = name.strip()
        source = Source("--set", setting)
        span = Span(source, 1, 1, 1, max(len(name), 1) + 1)
        if not equals or not name:
            help = "write `--set name=value`"
            raise SpecError([Diagnostic("bad-setting", f"`{setting}` is no setting", span, help=help)])
        # The value is read where it stands, so that a message points into the setting.
        if not value.strip():
            help = f"write `--set {name}=…`"
            raise SpecError([Diagnostic("bad-setting", f"`{name}` is set to nothing", span, help=help)])
        before = len(setting) - len(value)
        node = parse(source, " " * before + value)
        overrides.append(Override(tuple(name.split(".")), Scalar(name, name, False, span), node))
    return overrides


def apply_overrides(root: Node, overrides: Iterable[Override]) -> dict[str, Entry]:
    """Puts settings of sections into the tree, and returns those of arguments by name.

    Raises:
        SpecError: a path leads nowhere.
    """
    arguments: dict[str, Entry] = {}
    for override in overrides:
        if len(override.path) == 1:
            arguments[override.path[0]] = Entry(override.key, override.value)
        elif isinstance(root, Mapping):
            _put(root, override)
    return arguments


def _put(root: Mapping, override: Override) -> None:
    section, *inner = override.path
    if section not in SETTABLE_SECTIONS:
        help = "settings are arguments of the spec, `name=value`, or keys of its sections `train.…` and `deploy.…`"
        raise SpecError([Diagnostic("bad-setting", f"`{section}` can't be set", override.key.span, help=help)])
    place = root
    for name in (section, *inner[:-1]):
        entry = place.entries.get(name)
        if entry is None:
            help = did_you_mean(name, place.entries) if place is not root else f"the spec has no `{name}` section"
            message = f"`{'.'.join(override.path)}` is not in the spec"
            raise SpecError([Diagnostic("bad-setting", message, override.key.span, help=help)])
        if isinstance(entry.value, Scalar):  # `optimizer: adam` becomes `optimizer: {adam: …}`
            word = entry.value
            key = Scalar(word.text, word.text, False, word.span)
            entry.value = Mapping({word.text: Entry(key, Scalar(None, "", False, word.span))}, word.span)
        if not isinstance(entry.value, Mapping):
            message = f"`{name}` is a list; only names can be set"
            raise SpecError([Diagnostic("bad-setting", message, override.key.span)])
        place = entry.value
    name = inner[-1]
    if len(inner) == 2 and section == "train":
        name = _written_as(place, inner[0], name)
    key = Scalar(name, name, False, override.key.span)
    place.entries[name] = Entry(place.entries[name].key if name in place.entries else key, override.value)


def _written_as(choice: Mapping, section: str, name: str) -> str:
    """The key under which an argument of a choice stands: its kind's own, for `lr` of `optimizer: {adam: 1e-3}`."""
    from netspec.recipe import CHOICES  # its many models are for specs that are trained

    for kind, model in CHOICES.get(section, {}).items():
        entry = choice.entries.get(kind)
        if entry is not None and name == next(iter(model.model_fields), None):
            given = not (isinstance(entry.value, Scalar) and entry.value.value is None)
            return kind if given else name
    return name
