"""What a value in a spec is at its place: expressions read the arguments and shapes that are known there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from netspec.binding import evaluate, if_known, value_of
from netspec.diagnostics import Diagnostic, Findings
from netspec.expressions import Shaped
from netspec.network import LeftOut, Network
from netspec.scope import Result, Scope, resolve
from netspec.source import Span
from netspec.yaml_reader import Node, Scalar

T = TypeVar("T")

_READ = re.compile(r"[A-Za-z_]\w*(?:\.\w+)?")

SIZES = ("channels", "height", "width")
FEATURES = "features"  # the last axis of N × features and N × T × features


class TooLarge(Exception):
    """The network is over a bound; elaboration stops."""


class Evaluator:
    """Evaluates values and references in a scope; what is wrong with them goes to the findings."""

    def __init__(self, network: Network, findings: Findings) -> None:
        self.network = network
        self.findings = findings

    def variables(self, scope: Scope) -> dict[str, Any]:
        """What expressions may read: the arguments in scope, `i`, and the shapes that come in, by `in` or by name."""
        if scope.visible is None:
            scope.visible = dict(scope.variables)
            if scope.input is not None:
                scope.visible["in"] = self.shaped(scope.input)
        return scope.visible

    def shaped(self, source: Result) -> Shaped:
        """The sizes that a tensor has in expressions: those that are known; None for all after a mistake."""
        if source.node is None:
            return Shaped(dict.fromkeys((*SIZES, FEATURES, "rank")))
        shape = self.network.layer(source.node)["output"].shape
        sizes = {name: size for name, size in zip(SIZES, shape[1:], strict=False) if isinstance(size, int)}
        if len(shape) in (2, 3) and isinstance(shape[-1], int):
            sizes[FEATURES] = shape[-1]
        return Shaped({**sizes, "rank": len(shape)})

    def reason(self, condition: Node, scope: Scope) -> LeftOut:
        """Why a layer is left out whose condition is false."""
        text = condition.text if isinstance(condition, Scalar) else ""
        known = dict(self.variables(scope))
        for name in [name for name, value in known.items() if isinstance(value, Shaped)]:
            known |= {f"{name}.{size}": value for size, value in known.pop(name).attributes.items()}
        words = dict.fromkeys(_READ.findall(text))
        return LeftOut(text, condition.span, {word: known[word] for word in words if word in known})

    def number(self, node: Node, scope: Scope) -> Any:
        """The value of a modifier; None after a mistake."""
        if isinstance(node, Scalar) and node.value is None:
            self.report(Diagnostic("wrong-type", "a value is expected here, nothing found", node.span), scope)
            return None
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return self.bound(lambda: evaluate(node, self.variables(scope)), scope)
        return self.bound(lambda: value_of(node, scope.variables), scope)

    def reference(self, node: Node, scope: Scope) -> Result:
        """What a reference stands for; a result of unknown type after a mistake."""
        return self.bound(lambda: resolve(node, scope), scope) or Result(None)

    def bound(self, make: Callable[[], T], scope: Scope) -> T | None:
        """What `make` gives; None where it is refused, which is reported, or not known."""
        return if_known(make, lambda diagnostic: self.report(diagnostic, scope))

    def report(self, diagnostic: Diagnostic, scope: Scope) -> None:
        """Adds a finding, with the way through the blocks that led there."""
        self.findings.add(diagnostic.located(scope.expansion) if scope.expansion else diagnostic)

    def too_large(self, message: str, span: Span, scope: Scope) -> NoReturn:
        """Reports a network over a bound, and ends the elaboration."""
        self.report(Diagnostic("too-large", message, span), scope)
        raise TooLarge
