"""What the text of a block says: its defaults, and when it has a child, as Python over the arguments of its class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from netspec import expressions
from netspec.expressions import ExpressionError, Shaped
from netspec.network import Network
from netspec.source import Source
from netspec.yaml_reader import Mapping as MappingNode
from netspec.yaml_reader import Scalar, parse

_PLAIN = re.compile(r"[\w\s+\-*/%()<>=!.,\[\]]*\Z")
_WORDS = {"and", "or", "not", "if", "else", "min", "max", "True", "False"}


class BlockTexts:
    """The blocks of a network as they are written."""

    def __init__(self, network: Network) -> None:
        root = parse(Source("spec", network.text))
        blocks = root.get("blocks") if isinstance(root, MappingNode) else None
        self.blocks = blocks if isinstance(blocks, MappingNode) else None

    def default(self, block: str, argument: str) -> Any:
        """What a block's argument is where it is not given, if that is a plain value; else None."""
        node: Any = self.blocks
        for key in (block, "args", argument):
            node = node.get(key) if isinstance(node, MappingNode) else None
        node = node.get("default") if isinstance(node, MappingNode) else node
        plain = isinstance(node, Scalar) and not isinstance(node.value, str)
        return node.value if plain else None

    def of(self, block: str, child: str, columns: Mapping[str, Sequence[Any]], there: Sequence[bool]) -> str | None:
        """The condition as Python, if it holds just where the child is there; None where it can't be had."""
        node: Any = self.blocks
        for key in (block, "net", child, "when"):
            node = node.get(key) if isinstance(node, MappingNode) else None
        if not isinstance(node, Scalar) or not _PLAIN.match(node.text):
            return None
        try:
            tree = expressions.parse(node.text)
            for index, present in enumerate(there):
                scope = {name: values[index] for name, values in columns.items()}
                scope["in"] = Shaped({"channels": scope.get("in_channels")})
                if expressions.evaluate(tree, scope) is not present:
                    return None
        except ExpressionError:
            return None
        text = re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", node.text))
        text = re.sub(r"\bin\s*\.\s*channels\b", "in_channels", text)
        names = set(re.findall(r"[A-Za-z_]\w*", text))
        return text if names <= {*columns, *_WORDS} else None
