"""The text of a network's source: imports, helpers, a class for each block, the network."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any, cast

from compiler.lowering.table import drawn_parameter, same_for_all
from compiler.module import build
from compiler.source.classes import Child, Classes, SourceClass, borrowed_by
from compiler.source.construction import Chain, Expression, New, value_text, written
from compiler.source.forward import UNREAD, attribute, forward_lines
from compiler.source.helpers import Helpers
from netspec import __version__
from netspec.network import Network

COMMENT_COLUMN = 44
DENSE_BLOCK = '''
class DenseBlock(nn.ModuleDict):
    """Layers each of which reads all before it, side by side along the channels."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], 1)
        return x
'''


def python_source(network: Network) -> str:
    """The network as a Python file that needs PyTorch alone.

    The module has the state-dict of the one that `build` makes, draws the same weights from the same seed, and with it
    gives the same outputs to the bit.

    Raises:
        CompilerError: a layer has no lowering, or its module can't be written out.
    """
    return _Writer(network).text()


class _Writer:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.module = build(network)
        self.found = Classes(network, self.module)
        self.root = self.found.root()
        self.helpers = Helpers()
        self.chains: set[str] = set()  # the kinds of chains that are written
        for cls in self.found.classes:
            for child in cls.children:
                self.look(child.expression)

    def look(self, expression: Expression) -> None:
        """Notes what an expression needs above it."""
        if isinstance(expression, New):
            if expression.source is not None:
                self.helpers.add(cast(type | FunctionType, expression.source))
            if expression.source is drawn_parameter:
                self.helpers.add(cast(FunctionType, same_for_all))
            for value in expression.arguments.values():
                if isinstance(value, New | Chain):
                    self.look(value)
            return
        self.chains.add("dense" if expression.dense else "named" if expression.named else "numbered")
        for member in expression.members.values():
            self.look(member)

    def text(self) -> str:
        imports = self.helpers.imports
        imports.take("torch")
        imports.take("torch", "Tensor")
        imports.take("torch", "nn")
        if "named" in self.chains:
            imports.take("collections", "OrderedDict")
        standard, theirs = imports.lines()
        parts = [
            self.heading(),
            "from __future__ import annotations\n",
            *(["\n".join(standard) + "\n"] if standard else []),
            "\n".join(theirs) + "\n",
            *(f"\n{text}\n" for text in self.helpers.texts.values()),
            *([DENSE_BLOCK] if "dense" in self.chains else []),
            *(f"\n{self.class_text(cls)}\n" for cls in self.found.classes),
            self.example(),
        ]
        return "\n".join(parts)

    def heading(self) -> str:
        sizes = ", ".join(f"{name} = {size}" for name, size in self.network.sizes.items())
        about = self.network.name + (f": {self.network.origin}" if self.network.origin else "")
        lines = [
            _safe(about),
            "",
            f"Written by netspec {__version__} from a spec; it needs PyTorch alone.",
            f"{self.network.parameters():,} parameters. Shapes in comments: batch first"
            + (f", at {sizes}." if sizes else "."),
        ]
        return '"""' + "\n".join(lines) + '\n"""\n'

    def class_text(self, cls: SourceClass) -> str:
        lines = [f"class {cls.name}(nn.Module):", f'    """{self.about(cls)}"""', ""]
        signature = ["self"]
        for name, values in cls.arguments.items():
            default = f" = {value_text(cls.defaults[name])}" if name in cls.defaults else ""
            signature.append(f"{name}: {_annotation(values)}{default}")
        lines.append(f"    def __init__({', '.join(signature)}) -> None:")
        lines.append("        super().__init__()")
        for child in cls.children:
            lines.append(f"        {self.assignment(child)}")
        lines += ["", *self.forward(cls)]
        return "\n".join(lines)

    def about(self, cls: SourceClass) -> str:
        if cls is self.root:
            return f"The whole network: {_safe(self.network.name)}."
        paths = [plan.path for plan in cls.uses]
        shown = ", ".join(paths[:2]) + (f" and {len(paths) - 2} more" if len(paths) > 2 else "")
        kind = self.network.containers[cls.uses[0].use].kind
        return f"`{kind}`, as in {shown}."

    def assignment(self, child: Child) -> str:
        made = written(child.expression)
        bare = isinstance(child.expression, New) and child.expression.source is drawn_parameter
        if child.condition:
            made = f"{made} if {child.condition} else None"
        return f"{attribute(child.name, bare)} = {made}"

    def forward(self, cls: SourceClass) -> Iterator[str]:
        plan = cls.model
        inputs = [_input_name(name) for name in plan.reads] if cls is self.root else self.input_names(cls)
        borrowed = borrowed_by(self.found.plans, plan.path)
        parameters = {path: path.replace(".", "_") for path in borrowed}

        def lend(path: str) -> str:
            """A module of another container, as this one can name it."""
            if path in parameters:
                return parameters[path]
            below = path.removeprefix(f"{plan.path}.") if plan.path else path
            first, _, rest = below.partition(".")
            bare = path in self.found.tensors
            get = "get_parameter" if bare else "get_submodule"
            return f'{attribute(first)}.{get}("{rest}")' if rest else attribute(first, bare)

        lent: dict[str, list[str]] = {}
        for step in plan.steps:
            name = next((name for name, path in plan.children.items() if path == step.module), step.module)
            needed = borrowed_by(self.found.plans, step.module) if step.module in self.found.plans else []
            own = [] if name in plan.children else [lend(step.module)]
            if own or needed:
                lent[name] = own + [lend(path) for path in needed]
        conditional = {child.name: child.condition is not None for child in cls.children}
        lines = forward_lines(cls.body, inputs, conditional, lent)
        arguments = [f"{name}: Tensor" for name in inputs] + [
            f"{name}: {'Tensor' if path in self.found.tensors else 'nn.Module'}" for path, name in parameters.items()
        ]
        result = {0: "None", 1: "Tensor"}.get(len(cls.body.gives), "tuple[Tensor, ...]")
        yield f"    def forward({', '.join(['self', *arguments])}) -> {result}:"
        column = min(max(len(line.code) for line in lines), COMMENT_COLUMN)
        for line in lines:
            shape = self.shape(line.value, plan.use) if line.value else ""
            yield f"        {line.code:<{column}}  # {shape}" if shape else f"        {line.code}"

    def input_names(self, cls: SourceClass) -> list[str]:
        """The spec's names of what a container reads, where it has some."""
        plan = cls.model
        if len(plan.reads) == 1:
            return ["x"]
        names = {node: _input_name(name) for name, node in self.network.containers[plan.use].inputs.items()}
        return [names.get(value, f"x{index + 1}") for index, value in enumerate(plan.reads)]

    def shape(self, value: str, use: str) -> str:
        node = value if value in self.network.nodes else use + value
        if node not in self.network.nodes:
            node = node.removeprefix(".")
        return " × ".join(str(size) for size in self.network.concrete(self.network.layer(node)["output"].shape))

    def example(self) -> str:
        shapes = []
        for name in self.network.inputs:
            sizes = self.network.concrete(self.network.layer(name)["output"].shape)
            shape = ", ".join(str(size) if isinstance(size, int) else "1" for size in sizes)
            dtype = self.network.layer(name)["output"].dtype
            shapes.append(shape if dtype == "float32" else f"{shape}, dtype=torch.{dtype}")
        inputs = ", ".join(f"torch.zeros({shape})" for shape in shapes)
        result = "output.shape" if len(self.network.outputs) == 1 else "[tensor.shape for tensor in output]"
        return (
            f'\nif __name__ == "__main__":\n    network = {self.root.name}().eval()\n'
            f"    output = network({inputs})\n    print({result})\n"
        )


def _safe(text: str) -> str:
    """A text that can stand in a docstring."""
    return " ".join(text.replace("\\", "\\\\").replace('"""', "'''").split()).rstrip('"')


def _input_name(name: str) -> str:
    return f"{name}_" if name in ("self", "torch", "nn", UNREAD) else name


def _annotation(values: list[Any]) -> str:
    kinds = {type(value).__name__ for value in values}
    return kinds.pop() if len(kinds) == 1 else "float" if kinds <= {"int", "float"} else "object"
