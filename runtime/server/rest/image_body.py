"""The one image that a request carries: as its body, or as the one file of a form."""

from collections.abc import AsyncGenerator

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from runtime.protocol.tensors import invalid, shown
from runtime.server.rest.bodies import Bodies, Room
from runtime.serving.refused import Reason, Refused

# By media type without its parameters; what is in the bytes decides how they are read.
IMAGE_TYPES = frozenset(
    f"image/{kind}"
    for kind in (
        "bmp",
        "gif",
        "jp2",
        "jpeg",
        "jpg",
        "png",
        "tiff",
        "webp",
        "x-ms-bmp",
        "x-portable-anymap",
        "x-portable-graymap",
        "x-portable-pixmap",
    )
)
FORM = "multipart/form-data"
# What clients call a file of a form when they don't know its kind.
UNSAID = frozenset({"", "application/octet-stream"})


async def read_image_body(request: Request, bodies: Bodies, room: Room) -> bytes | memoryview:
    """The bytes of the image in a request, which fill `room`.

    Raises:
        Refused: the body is too large, too slow, no image, or no form with one image.
        ClientGone: there is nobody to answer.
    """
    kind = _media_type(request.headers.get("content-type", ""))
    if kind != FORM:
        _check_type(kind)
    body = await bodies.read(dict(request.scope["headers"]), request.receive, room)
    image = await _file_of_form(request.headers, bytes(body)) if kind == FORM else body
    if not image:
        raise invalid("the image is empty")
    return image


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _check_type(kind: str) -> None:
    if kind not in IMAGE_TYPES:
        raise Refused(
            Reason.UNSUPPORTED_MEDIA,
            f"Content-Type says what the image is, image/jpeg or image/png for instance, or {FORM}; "
            f"given {shown(kind) if kind else 'nothing'}",
        )


async def _file_of_form(headers: Headers, body: bytes) -> bytes:
    """The only file of a form."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(headers, whole())
    parser.spool_max_size = len(body) + 1  # never on a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise invalid(f"the form is broken: {error.message}") from None
    parts = form.multi_items()
    if fields := [name for name, value in parts if not isinstance(value, UploadFile)]:
        raise invalid(f"the form has the field {shown(fields[0])}: options stand in the URL, ?top=5")
    files = [value for _, value in parts if isinstance(value, UploadFile)]
    if len(files) != 1:
        raise invalid(f"the form holds {len(files)} files instead of one image")
    kind = _media_type(files[0].content_type or "")
    if kind not in IMAGE_TYPES | UNSAID:
        name = shown(files[0].filename or "the file")
        raise Refused(
            Reason.UNSUPPORTED_MEDIA, f"{name} is {kind}: an image is wanted, image/jpeg or image/png for instance"
        )
    return await files[0].read()
