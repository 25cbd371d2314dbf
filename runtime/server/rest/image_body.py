"""The one image that a request carries: as its body, or as the one file of a form."""

from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

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


async def read_image_body(request: Request, max_body: int) -> bytes:
    """The bytes of the image in a request of at most `max_body` bytes.

    Raises:
        Refused: the body is larger, no image, no form with one image, or compressed.
    """
    kind = _media_type(request.headers.get("content-type", ""))
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(Reason.UNSUPPORTED_MEDIA, "an image is sent as it is: Content-Encoding is not read here")
    if kind != FORM:
        _check_type(kind)
    body = b"".join([chunk async for chunk in _bounded(request, max_body)])
    image = await _file_of_form(request, body) if kind == FORM else body
    if not image:
        raise Refused(Reason.INVALID, "the image is empty")
    return image


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _check_type(kind: str) -> None:
    if kind not in IMAGE_TYPES:
        given = f"'{kind}'" if kind else "none"
        raise Refused(
            Reason.UNSUPPORTED_MEDIA,
            f"Content-Type says what the image is, image/jpeg or image/png for instance, or {FORM}; given {given}",
        )


async def _bounded(request: Request, max_body: int) -> AsyncGenerator[bytes, None]:
    """The chunks of the body, as long as they are within the bound."""
    too_large = Refused(Reason.TOO_LARGE, f"the body is larger than {max_body} bytes")
    if int(request.headers.get("content-length", 0)) > max_body:
        raise too_large
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_body:
            raise too_large
        yield chunk


async def _file_of_form(request: Request, body: bytes) -> bytes:
    """The only file of a form."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole())
    parser.spool_max_size = len(body) + 1  # never on a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(Reason.INVALID, f"the form is broken: {error.message}") from None
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if fields := [name for name, value in form.multi_items() if not isinstance(value, UploadFile)]:
        raise Refused(Reason.INVALID, f"the form has the field '{fields[0]}': options stand in the URL, ?top=5")
    if len(files) != 1:
        raise Refused(Reason.INVALID, f"the form holds {len(files)} files instead of one image")
    kind = _media_type(files[0].content_type or "")
    if kind not in UNSAID:
        _check_type(kind)
    return await files[0].read()
