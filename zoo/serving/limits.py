"""What the server refuses, and how it says so: limits, and one error for every refusal."""

from dataclasses import dataclass
from typing import Any

from zoo.errors import ZooError

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    Attributes:
        body_bytes: of one request, and of everything that it makes the server fetch.
        items: of one request (2048 is also OpenAI's limit).
        regions: of one item, which all together are one region.
        characters: of one text; what the model cannot read of it is cut off as by `encode`.
        pixels: of one image, checked before it is decoded.
        pages: of one document, which is embedded page by page while others wait.
        audio_seconds: of one item's audio, of which a minute is a few kilobytes and a second of work.
        seconds: from the first byte of a request to its answer.
        queue_items: items of all requests that wait; more are turned away with 503 and Retry-After.
        pending_bytes: bodies of all requests that are being answered, and what was fetched for them.
        requests: answered at the same time; more are turned away likewise.
        max_wait: seconds that a batch with room waits for items that are being read at that moment.
    """

    body_bytes: int = 32 * MEBIBYTE
    items: int = 2048
    regions: int = 100
    characters: int = 200_000
    pixels: int = 50_000_000
    pages: int = 50
    audio_seconds: float = 1800.0
    seconds: float = 60.0
    queue_items: int = 8192
    pending_bytes: int = 256 * MEBIBYTE
    requests: int = 1024
    max_wait: float = 0.005

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "max_wait"):
                raise ValueError(f"{name} must be positive, not {value}")
        if self.items > self.queue_items:
            raise ValueError(f"items ({self.items}) of one request must fit into the queue ({self.queue_items})")


class RequestError(ZooError):
    """A request that is refused; `body()` is the answer in OpenAI's form.

    Attributes:
        status: HTTP status. code: reason in one word. param: field of the request ("input[3]").
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kinds = {401: "authentication_error", 404: "not_found_error"}
        kind = "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Retry-After, and the scheme that a 401 has to name."""
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        return {**headers, "WWW-Authenticate": "Bearer"} if self.status == 401 else headers


def bad_field(param: str, message: str, code: str = "invalid_value") -> RequestError:
    """A 400 about one field."""
    return RequestError(400, code, f"{param}: {message}", param=param)
