"""The way from a result back to the file that it shows, on a page of this machine's user alone."""

import hashlib
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .gallery import Picture

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

PLACE = "/original/"


class Originals:
    """Files that were shown as results, each at an address that tells nothing of others."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}

    def link(self, picture: Picture) -> dict[str, str]:
        """`link` and `original`, the path, for a row of `score_bars`. What is called path, Gradio's client would fetch."""
        key = hashlib.sha256(str(picture.path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._paths[key] = picture.path
        return {"link": f"{PLACE}{key}", "original": str(picture.path)}

    def routes(self) -> "list[Route]":
        """For the application of the page."""
        from starlette.routing import Route

        return [Route(PLACE + "{key}", self._send)]

    async def _send(self, request: "Request") -> "Response":
        from starlette.responses import FileResponse, PlainTextResponse

        path = self._paths.get(request.path_params["key"])
        if path is None or not path.is_file():
            return PlainTextResponse("this image is not here any more", 404)
        kind = mimetypes.guess_type(path.name)[0] or ""
        # Whatever a file holds, no browser may take it for a page.
        headers: dict[str, Any] = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
        kind = kind if kind.startswith("image/") and kind != "image/svg+xml" else "application/octet-stream"
        return FileResponse(path, media_type=kind, headers=headers)
