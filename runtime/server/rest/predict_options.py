"""What a request for a prediction asks beside the image: the query of its URL, and the kinds of answer it accepts."""

from collections.abc import Container
from dataclasses import dataclass, fields
from math import nan
from typing import Literal, TypeVar, get_args

from starlette.datastructures import Headers, QueryParams

from runtime.answering.answer import Described, classifier_output
from runtime.answering.image_input import takes_pixels
from runtime.protocol.tensors import invalid, shown
from runtime.task import Detection, Segmentation

Format = Literal["json", "png"]
MaskForm = Literal["png", "rle"]

Word = TypeVar("Word", bound=str)


@dataclass(frozen=True)
class PredictOptions:
    """The options of one request.

    Attributes:
        top: how many classes a classifier tells.
        score: the score that an object needs to be told, in 0…1.
        format: JSON, or a picture on which the answer is drawn.
        mask: in JSON a mask as one PNG, or as run lengths by class.
    """

    top: int = 5
    score: float = 0.0
    format: Format = "json"
    mask: MaskForm = "png"


def read_options(query: QueryParams, headers: Headers, model: Described) -> PredictOptions:
    """The options of a request to a model.

    Raises:
        Refused: one is unknown, repeated, wrong, or has no meaning for the model.
    """
    given: dict[str, str] = {}
    for name, text in query.multi_items():
        if name not in _OPTIONS:
            raise invalid(f"there is no option {shown(name)}; there are {', '.join(_OPTIONS)}")
        if name in given:
            raise invalid(f"the option '{name}' is given twice")
        given[name] = text
    usual = PredictOptions(format="png" if _prefers_png(headers.get("accept", "*/*")) else "json")
    options = PredictOptions(
        top=_top(given["top"]) if "top" in given else usual.top,
        score=_score(given["score"]) if "score" in given else usual.score,
        format=_choice("format", given["format"], get_args(Format)) if "format" in given else usual.format,
        mask=_choice("mask", given["mask"], get_args(MaskForm)) if "mask" in given else usual.mask,
    )
    _check_meaning(given, options, model)
    return options


_OPTIONS = tuple(field.name for field in fields(PredictOptions))


def _top(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise invalid(f"the option 'top' is a whole number from 1 on, not {shown(text)}")
    return int(text)


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = nan
    if not 0 <= score <= 1:
        raise invalid(f"the option 'score' is a number from 0 to 1, not {shown(text)}")
    return score


def _choice(name: str, text: str, words: tuple[Word, ...]) -> Word:
    for word in words:
        if word == text:
            return word
    raise invalid(f"the option '{name}' is {' or '.join(words)}, not {shown(text)}")


def _prefers_png(accept: str) -> bool:
    """Whether an Accept header likes PNG better than JSON (RFC 9110, section 12.5.1)."""
    return _quality(accept, "image", "png") > _quality(accept, "application", "json")


def _quality(accept: str, kind: str, subtype: str) -> float:
    """The weight of a media type in an Accept header: of the range that names it most closely."""
    weights: dict[str, float] = {}
    for media_range in accept.lower().split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        weight = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        try:
            weights[name] = float(weight)
        except ValueError:
            weights[name] = 0.0
    return next((weights[name] for name in (f"{kind}/{subtype}", f"{kind}/*", "*/*") if name in weights), 0.0)


def _check_meaning(given: Container[str], options: PredictOptions, model: Described) -> None:
    """Raises Refused where an option would do nothing."""
    task = model.metadata.task
    if "top" in given and classifier_output(model) is None:
        raise invalid("the option 'top' is for classifiers, and the model does not say that it is one")
    if "score" in given and not isinstance(task, Detection):
        raise invalid("the option 'score' is for detectors, and the model gives no boxes with scores")
    if "mask" in given and (not isinstance(task, Segmentation) or options.format != "json"):
        raise invalid("the option 'mask' is for the JSON of models that give a mask")
    if options.format == "png" and not (takes_pixels(model) if task else classifier_output(model)):
        raise invalid(
            "nothing can be drawn: the model is no classifier, and does not take an image's pixels and give boxes or a "
            "mask"
        )
