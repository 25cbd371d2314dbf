"""What was found, drawn on the image itself, pixel for pixel.

Colours are Okabe and Ito's, which people with any colour vision tell apart (https://jfly.uni-koeln.de/color/). A class
has the same one in every picture; classes beyond the seventh share it, and are told apart in masks by a pattern. Text
has at least `MIN_TEXT` pixels and grows with the image; what has no room on the image stands in a strip below it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runtime.answering.answer import Answer, Candidate
from runtime.answering.objects import Found, Mask, is_background
from runtime.errors import InputError

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)

MIN_TEXT = 12  # pixels
TEXT_SHARE = 0.02  # of the side of a square as large as the image
ROOM = 10  # heights of text that an image needs on both sides to have labels on it
OPACITY = 0.55  # of a mask's colours


@dataclass(frozen=True)
class _Entry:
    """A line of the strip below an image: a swatch, height × width × 3, and text."""

    swatch: np.ndarray
    text: str


def colour_of(index: int) -> Colour:
    """The colour of a class."""
    return PALETTE[index % len(PALETTE)]


def draw_answer(pixels: np.ndarray, answer: Answer) -> Image.Image:
    """An image, uint8 [height, width, 1 or 3], with what a model says about it.

    Raises:
        InputError: the model is neither a classifier nor tells what is where.
    """
    if answer.mask is not None:
        return draw_mask(pixels, answer.mask)
    if answer.found is not None:
        return draw_objects(pixels, answer.found)
    if answer.top is not None:
        return draw_labels(pixels, answer.top)
    raise InputError("nothing can be drawn: the model's outputs are no labels, boxes or mask")


def draw_labels(pixels: np.ndarray, top: Sequence[Candidate]) -> Image.Image:
    """An image, uint8 [height, width, 1 or 3], above its likeliest classes with their probabilities."""
    image = _picture(pixels)
    size = _text_size(image)
    entries = [_Entry(_plain(one.index, size), f"{one.label} {one.probability:.1%}") for one in top]
    return _with_strip(image, entries, size)


def draw_objects(pixels: np.ndarray, found: Sequence[Found]) -> Image.Image:
    """An image, uint8 [height, width, 1 or 3], with boxes and their labels and scores."""
    image = _picture(pixels)
    size = _text_size(image)
    pen = ImageDraw.Draw(image)
    width = max(1, round(size / 6))
    for one in reversed(found):
        _outline(pen, _within(one.box, image), colour_of(one.index), width)
    texts = [f"{one.label} {one.score:.2f}" for one in found]
    if min(image.size) >= ROOM * size:
        _write_labels(pen, image, found, texts, size)
        return image
    swatches = [_plain(one.index, size) for one in found]
    return _with_strip(image, [_Entry(*pair) for pair in zip(swatches, texts, strict=True)], size)


def draw_mask(pixels: np.ndarray, mask: Mask) -> Image.Image:
    """An image, uint8 [height, width, 1 or 3], under the colours of its pixels' classes, and their names below it.

    The background, where a class is named so, is left as it is.
    """
    image = _picture(pixels)
    size = _text_size(image)
    shown = [region for region in mask.regions if not is_background(region.label)]
    colours = np.zeros((max((region.index for region in mask.regions), default=0) + 1, 3), np.uint8)
    visible = np.zeros(len(colours), np.uint8)
    for region in shown:
        colours[region.index] = colour_of(region.index)
        visible[region.index] = 255
    overlay = colours[mask.numbers]
    period = max(6, size // 2)
    for region in shown:
        if region.index >= len(PALETTE):
            overlay[(mask.numbers == region.index) & _pattern(region.index, mask.numbers.shape, period)] = WHITE
    blended = Image.blend(image, Image.fromarray(overlay), OPACITY)
    image = Image.composite(blended, image, Image.fromarray(visible[mask.numbers]))
    entries = [_Entry(_swatch(r.index, size, period), f"{r.label} {r.share:.1%}") for r in shown]
    return _with_strip(image, entries, size)


def _picture(pixels: np.ndarray) -> Image.Image:
    """The pixels as an RGB image that can be drawn on."""
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))


def _text_size(image: Image.Image) -> int:
    return max(MIN_TEXT, round(TEXT_SHARE * math.sqrt(image.width * image.height)))


def _within(box: Box, image: Image.Image) -> tuple[int, int, int, int]:
    """The pixels at a box's left, top, right and bottom edge, within the image."""
    left, right = (min(max(round(x), 0), image.width - 1) for x in (box[0], box[2] - 1))
    top, bottom = (min(max(round(y), 0), image.height - 1) for y in (box[1], box[3] - 1))
    return left, top, max(left, right), max(top, bottom)


def _outline(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: Colour, width: int) -> None:
    """A frame within the box; where there is room, a black line inside sets it off from whatever it lies on."""
    left, top, right, bottom = box
    thickest = min(right - left, bottom - top) // 2 + 1
    pen.rectangle(box, outline=colour, width=min(width, thickest))
    if thickest > 3 * width:
        inner = (left + width, top + width, right - width, bottom - width)
        pen.rectangle(inner, outline=BLACK, width=max(1, width // 3))


def _write_labels(
    pen: ImageDraw.ImageDraw, image: Image.Image, found: Sequence[Found], texts: Sequence[str], size: int
) -> None:
    """Writes each text above its box, or where it covers no other: below it, or within; the surest come first."""
    placed: list[Box] = []
    font = ImageFont.load_default(size)
    margin = max(2, size // 5)
    for one, text in zip(found, texts, strict=True):
        text = _shortened(text, font, image.width - 2 * margin)
        box = _within(one.box, image)
        width, height = font.getlength(text) + 2 * margin, size + 2 * margin
        places = [_label(left, top, width, height, image) for left, top in _corners(box, width, height)]
        place = next((place for place in places if not any(_overlap(place, other) for other in placed)), places[0])
        placed.append(place)
        colour = colour_of(one.index)
        pen.rectangle(place, fill=colour)
        pen.text((place[0] + margin, place[1] + height / 2), text, _ink(colour), font, anchor="lm")


def _corners(box: tuple[int, int, int, int], width: float, height: float) -> list[tuple[float, float]]:
    """Where a label of this size may begin, the best place first."""
    left, top, right, bottom = box
    return [
        (left, top - height),
        (left, bottom + 1),
        (left, top),
        (right - width, top - height),
        (right - width, bottom + 1),
        (left, bottom - height),
        (right - width, top),
        (right - width, bottom - height),
    ]


def _label(left: float, top: float, width: float, height: float, image: Image.Image) -> Box:
    """The place of a label, moved into the image."""
    left = min(max(left, 0), max(image.width - 1 - width, 0))
    top = min(max(top, 0), max(image.height - 1 - height, 0))
    return left, top, left + width, top + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever is read better on a colour (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else WHITE


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The text in one line of printable characters, its end left away where it is wider than `width` pixels."""
    text = "".join(character if character.isprintable() else " " for character in text)
    while len(text) > 1 and font.getlength(text) > width:
        text = text[: min(len(text) - 2, len(text) * 9 // 10)] + "…"
    return text


def _pattern(index: int, shape: tuple[int, ...], period: int) -> np.ndarray:
    """Where a class's pattern is white, bool [height, width]: stripes, in a direction for every round of colours."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])
    thin = max(1, period // 3)
    stripes = (
        (rows + columns) % period < thin,
        (rows - columns) % period < thin,
        np.broadcast_to(rows % period < thin, shape),
        np.broadcast_to(columns % period < thin, shape),
        (rows % period < thin) & (columns % period < thin),
    )
    return stripes[(index // len(PALETTE) - 1) % len(stripes)]


def _plain(index: int, size: int) -> np.ndarray:
    """A square of a class's colour."""
    return np.full((size, size, 3), colour_of(index), np.uint8)


def _swatch(index: int, size: int, period: int) -> np.ndarray:
    """A square of a class's colour and pattern, as they are over a white image."""
    square = _plain(index, size)
    if index >= len(PALETTE):
        square[_pattern(index, (size, size), period)] = WHITE
    return (OPACITY * square + (1 - OPACITY) * 255).astype(np.uint8)


def _with_strip(image: Image.Image, entries: Sequence[_Entry], size: int) -> Image.Image:
    """The image with a white strip below it that holds the entries, in as many columns as fit; none, no strip."""
    if not entries:
        return image
    font = ImageFont.load_default(size)
    gap = size // 2
    texts = [_shortened(entry.text, font, 40 * size) for entry in entries]
    cell = round(max(map(font.getlength, texts))) + size + 3 * gap
    width = max(image.width, cell)
    columns = max(1, width // cell)
    lines = -(-len(entries) // columns)
    sheet = Image.new("RGB", (width, image.height + lines * (size + gap) + gap), WHITE)
    sheet.paste(image, (0, 0))
    pen = ImageDraw.Draw(sheet)
    for place, (entry, text) in enumerate(zip(entries, texts, strict=True)):
        line, column = divmod(place, columns)
        left, top = column * cell + gap, image.height + gap + line * (size + gap)
        sheet.paste(Image.fromarray(entry.swatch), (left, top))
        pen.rectangle((left, top, left + size - 1, top + size - 1), outline=BLACK)
        pen.text((left + size + gap, top + size / 2), text, BLACK, font, anchor="lm")
    return sheet
