"""``POST /v1/predict/MODEL``: what a model says about an image, as JSON or drawn on it."""

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.answering.answer import Answer, answer_of, fixed_batch, needed_outputs, split_rows
from runtime.answering.drawing import draw_answer
from runtime.answering.encoding import mask_png, png, run_lengths
from runtime.answering.image_input import ImageInput, image_input, takes_pixels
from runtime.answering.records import record_of
from runtime.errors import InputError
from runtime.images import decode, pixel_count, pixels_of
from runtime.protocol.tensors import invalid
from runtime.server.rest.bodies import Bodies, ClientGone, Room
from runtime.server.rest.image_body import read_image_body
from runtime.server.rest.infer import ClientWatch
from runtime.server.rest.pixel_budget import PixelBudget
from runtime.server.rest.predict_options import PredictOptions, read_options
from runtime.server.rest.replies import STOPPING, refusal
from runtime.serving.model import ServedModel
from runtime.serving.refused import Refused
from runtime.serving.repository import Repository
from runtime.serving.request import InferenceRequest

# Over all requests; a pixel costs up to a dozen bytes while it is converted or drawn on.
PIXELS_AT_ONCE = 2**26
MAX_WAITING = 256

UPLOAD = "the upload"
# For a client that doesn't hear it: its request was dropped.
GONE = Response(status_code=400)


def predict_routes(repository: Repository, bodies: Bodies) -> list[Route]:
    """The routes on which the models of the repository answer images, within the bounds of bodies."""
    predict = Predict(repository, bodies)
    paths = ("/v1/predict/{model}", "/v1/predict/{model}/versions/{version}")
    return [Route(path, predict.answer, methods=["POST"]) for path in paths]


@dataclass(frozen=True)
class _Question:
    """What is asked: the model, the input that the image is for, and the options."""

    model: ServedModel
    taken: ImageInput
    options: PredictOptions


class Predict:
    """Answers images. Decoding, drawing and writing happen in threads; the models are asked as by any other request."""

    def __init__(self, repository: Repository, bodies: Bodies) -> None:
        self._repository = repository
        self._bodies = bodies
        self._budget = PixelBudget(PIXELS_AT_ONCE, MAX_WAITING)

    async def answer(self, request: Request) -> Response:
        """The response to a request with one image.

        Raises:
            Refused: there is no such model, or it doesn't say how an image becomes its input; an option is wrong; the
                body is no image; or what the model itself refuses.
        """
        question = self._question(request)  # what stands against it is told before the body is read
        if question.model.is_full:
            raise question.model.refused(question.model.overloaded())
        watch = ClientWatch(request.receive)
        try:
            with Room(self._bodies) as room:
                try:
                    content = await read_image_body(request, self._bodies, room)
                except Refused as refused:
                    raise question.model.refused(refused) from None
                watch.start()
                if not self._repository.draining:  # while the body came, the model may have been replaced
                    question = self._question(request)
                with question.model:
                    return await self._answered(question, content)
        except InputError as error:
            raise question.model.refused(invalid(error.message)) from None
        except ClientGone:
            return GONE
        except asyncio.CancelledError:
            if watch.client_gone:
                return GONE
            return refusal(STOPPING).response()  # a stopping server gives up on what takes too long
        finally:
            watch.stop()

    def _question(self, request: Request) -> _Question:
        model = self._repository.model(request.path_params["model"], request.path_params.get("version", ""))
        try:
            return _Question(model, _image_input(model), read_options(request.query_params, request.headers, model))
        except Refused as refused:
            raise model.refused(refused) from None

    async def _answered(self, question: _Question, content: bytes | memoryview) -> Response:
        pixels = max(await asyncio.to_thread(pixel_count, content, UPLOAD), question.taken.prepared_pixels)
        async with self._budget.room_for(pixels):
            image, row = await asyncio.to_thread(_decoded, content, question.taken)
            outputs = await _ask(question, row)
            return await asyncio.to_thread(_response, question, image, outputs)


def _image_input(model: ServedModel) -> ImageInput:
    """The input that an image is for; Refused where there is none."""
    elsewhere = f"ask /v2/models/{model.name}/infer with the tensors themselves"
    try:
        taken = image_input(UPLOAD, model)
    except InputError as error:
        raise invalid(f"{error.message}; {elsewhere}") from None
    if taken.regions:
        name = taken.regions[0].name
        raise invalid(f"the model takes regions to look at beside an image, its input '{name}'; {elsewhere}")
    return taken


def _decoded(content: bytes | memoryview, taken: ImageInput) -> tuple[Image.Image, np.ndarray]:
    """The image, and the row that the model gets."""
    image = decode(content, UPLOAD, taken.contract.channels)
    return image, taken.row(UPLOAD, image)


async def _ask(question: _Question, row: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs for one row, without the batch dimension; a model of a fixed batch gets the row as often as that."""
    model = question.model
    rows = fixed_batch(model) or 1
    feeds = {question.taken.spec.name: np.repeat(row[np.newaxis], rows, axis=0)}
    result = await model.infer(InferenceRequest(feeds, needed_outputs(model)))
    return {name: split_rows(name, array, rows)[0] for name, array in result.outputs.items()}


def _response(question: _Question, image: Image.Image, outputs: dict[str, np.ndarray]) -> Response:
    model, options = question.model, question.options
    pixels = pixels_of(image)
    answer = answer_of(model, outputs, pixels if takes_pixels(model) else None, options.top, options.score)
    if options.format == "png":
        return Response(png(draw_answer(pixels, answer)), media_type="image/png")
    reply = {
        "model_name": model.name,
        "model_version": model.version,
        "height": image.height,
        "width": image.width,
        **_record(answer, options),
    }
    return Response(orjson.dumps(reply), media_type="application/json")


def _record(answer: Answer, options: PredictOptions) -> dict[str, Any]:
    """The answer as JSON, with the mask itself where there is one."""
    record = record_of(answer)
    if answer.mask is None:
        return record
    numbers = answer.mask.numbers
    if options.mask == "png":
        return record | {"mask": base64.b64encode(mask_png(numbers)).decode()}
    return {"classes": [told | {"segmentation": run_lengths(numbers == told["index"])} for told in record["classes"]]}
