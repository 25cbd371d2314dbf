"""A checked network for programs and notebooks: what commands show, as methods and as what a notebook displays.

`netspec.load("resnet50", classes=10)` gives one. What needs PyTorch or ONNX is loaded when it is asked for, through the
entry-point group `netspec.backends`, so this package goes without them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netspec.files import write_whole
from netspec.network import Network

if TYPE_CHECKING:
    from rich.table import Table

    from netspec.requirements import Requirement

SHOWN_ROWS = 40  # of a table in a notebook, beyond which it is folded


@dataclass(slots=True, eq=False, repr=False)
class Model(Network):
    """A network that has passed the checks, with all that one may want of it.

    The attributes are those of `Network`: `graph`, `containers`, `inputs`, `outputs`, `sizes`, …
    """

    @classmethod
    def of(cls, network: Network) -> Model:
        """The same network with these methods."""
        return cls(**{field.name: getattr(network, field.name) for field in fields(Network)})

    def summary(self) -> Summary:
        """The layers with output shapes, parameters, MACs and receptive fields; data, and a table when shown."""
        from netspec.summary import summarise  # reports are for those who ask for them

        return Summary(summarise(self))

    def explain(self, layer: str) -> list[str]:
        """A layer's or container's arithmetic, a line each.

        Raises:
            KeyError: there is none of that name.
        """
        if layer not in self.containers and layer not in self.nodes:
            raise KeyError(f"`{self.name}` has no layer `{layer}`")
        from netspec.explain import explain_container, explain_layer  # as above

        lines = explain_container(self, layer) if layer in self.containers else explain_layer(self, layer)
        return [f"{line.what}: {line}" for line in lines]

    def needs(self) -> list[Requirement]:
        """What the network needs of its free dimensions."""
        from netspec.requirements import requirements  # as above

        return requirements(self)

    def draw(self, path: str | Path | None = None, depth: int | None = None) -> Drawing:
        """The network as a picture, which a notebook shows; written to a file if a path is given.

        Args:
            path: its suffix is the format: svg, png, html, dot or mmd.
            depth: how many levels of containers are open; None for as many as fit on a page.

        Raises:
            DrawingError: what the format needs is not installed, or there is no such format.
        """
        from netspec.drawing import FORMATS, DrawingError, draw  # as above

        if path is not None:
            form = Path(path).suffix.removeprefix(".")
            if form not in FORMATS:
                known = ", ".join(f".{name}" for name in FORMATS)
                raise DrawingError(f"`{path}` has no ending of a picture: there are {known}")
            write_whole(Path(path), draw(self, form, depth))
        return Drawing(self, depth)

    def torch(self, weights: str | Path | None = None, seed: int = 0) -> Any:
        """The network as a PyTorch module, with weights drawn from a seed or loaded from a file.

        Args:
            weights: a safetensors file, or a PyTorch checkpoint, which is read as data only.

        Raises:
            CompilerError: the weights don't fit; it lists what differs.
            ModuleNotFoundError: PyTorch is not installed.
        """
        return _backend("torch")(self, weights, seed)

    def onnx(self, path: str | Path, weights: Any = None) -> Path:
        """Writes the network as an ONNX file, checked, and returns its path.

        Args:
            weights: a state-dict of this network, a module that has one, or as in `torch`; None for weights drawn from
                seed 0.

        Raises:
            CompilerError: the file can't be written, or the weights don't fit.
        """
        return Path(_backend("onnx")(self, path, weights))

    def source(self) -> str:
        """The network as PyTorch source that stands alone, as `netspec compile` writes it."""
        return str(_backend("source")(self))

    def __repr__(self) -> str:
        layers = sum(1 for _ in self.layers())
        return f"<{self.name}: {layers} layers, {self.parameters():,} parameters>"

    def __rich__(self) -> Table:
        return self.summary().__rich__()

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


class Summary:
    """The layers of a network as data; shown as a table by a notebook, a terminal and `print`.

    Attributes:
        data: what `netspec summary --format json` gives.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __str__(self) -> str:
        from netspec.summary import as_markdown  # reports are for those who ask for them

        return as_markdown(self.data)

    __repr__ = __str__

    def __rich__(self) -> Table:
        from rich.table import Table  # as above

        from netspec.summary import HEADINGS, rows, title

        table = Table(title=title(self.data))
        for heading in HEADINGS:
            table.add_column(heading, justify="right" if heading in ("parameters", "MACs") else "left")
        for row in rows(self.data):
            table.add_row(*row)
        return table

    def _repr_html_(self) -> str:
        from netspec.summary import HEADINGS, rows, title, totals  # as above

        cells = [[f"<td>{escape(cell)}</td>" for cell in row] for row in rows(self.data)]
        body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
        head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
        facts = " · ".join(f"{escape(name)} {escape(value)}" for name, value in totals(self.data))
        opened = " open" if len(cells) <= SHOWN_ROWS else ""
        return (
            f"<p><b>{escape(title(self.data))}</b><br>{facts}</p>"
            f"<details{opened}><summary>{len(cells)} layers</summary>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></details>"
        )


class Drawing:
    """A network's picture, made when it is shown."""

    def __init__(self, network: Network, depth: int | None = None) -> None:
        self.network = network
        self.depth = depth

    def svg(self) -> str:
        """The picture as SVG.

        Raises:
            DrawingError: what draws it is not installed.
        """
        from netspec.drawing import to_svg  # pictures are for those who look

        return to_svg(self.network, self.depth)

    def _repr_svg_(self) -> str:
        return self.svg()


def _backend(name: str) -> Any:
    """What makes something else of a network, from the packages above this one.

    Raises:
        ModuleNotFoundError: it, or what it needs, is not installed.
    """
    from importlib.metadata import entry_points  # only where something else is made of a network

    found = next(iter(entry_points(group="netspec.backends", name=name)), None)
    if found is None:
        raise ModuleNotFoundError("netspec's compiler is not installed: pip install 'netspec[train]'")
    try:
        return found.load()
    except ModuleNotFoundError as error:
        message = f"this needs {error.name}, which is not installed: pip install 'netspec[train]'"
        raise ModuleNotFoundError(message, name=error.name) from None
