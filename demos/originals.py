"""The way from a result back to the file that it shows: on a page of this machine's user, or of what a page shows at first."""

import hashlib
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.inputs.kinds import kind_of

from .gallery import GalleryFile

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

PLACE = "/original/"
PDF = "application/pdf"


class Originals:
    """Files that were shown as results, each at an address that tells nothing of others."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}

    def link(self, image: GalleryFile) -> dict[str, str]:
        """`link` and `original`, the path, for a row of `score_bars`. What is called path, Gradio's client would fetch."""
        key = hashlib.sha256(str(image.path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._paths[key] = image.path
        return {"link": f"{PLACE}{key}", "original": str(image.path)}

    def routes(self) -> "list[Route]":
        """For the application of the page."""
        from starlette.routing import Route

        return [Route(PLACE + "{key}", self._send)]

    async def _send(self, request: "Request") -> "Response":
        from starlette.responses import FileResponse, PlainTextResponse

        path = self._paths.get(request.path_params["key"])
        if path is None or not path.is_file():
            return PlainTextResponse("this file is not here any more", 404)
        kind = _type_of(path)
        # Whatever a file holds, no browser may take it for a page. Chromium shows no PDF in a sandbox, and runs none of it.
        headers: dict[str, Any] = {"X-Content-Type-Options": "nosniff"}
        if kind != PDF:
            headers["Content-Security-Policy"] = "sandbox"
        return FileResponse(path, media_type=kind, headers=headers)


def _type_of(path: Path) -> str:
    """What a browser is told that a file is: the kind that it holds, in the form that its name says if that is of this kind."""
    try:
        kind = kind_of(path)
    except InputError:
        return "application/octet-stream"
    if kind == "document":
        return PDF
    named = mimetypes.guess_type(path.name)[0] or ""
    right = ("image/",) if kind == "image" else ("audio/", "video/")  # .mp4 and .webm may hold either
    return named if named.startswith(right) and named != "image/svg+xml" else "application/octet-stream"
