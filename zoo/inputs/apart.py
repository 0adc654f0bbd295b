"""Images decoded in a process of its own, with limits on memory and time: what kills it costs one image."""

from typing import TYPE_CHECKING

from zoo.errors import CorruptImageError, ImageTooLargeError
from zoo.inputs.image import MAX_PIXELS, decode
from zoo.strangers.confined import MEMORY, SECONDS, Answer, Confined, ConfinedError

if TYPE_CHECKING:
    import numpy as np


class ImagesApart:
    """A way to decode images (see `zoo.inputs.heif.decoding`), which may be called from any thread; one at a time is decoded.

    Args:
        max_pixels: images with more are refused before they are decoded.
        seconds, memory: what one image may take. decoder: "module:function", as `zoo.strangers.confined` runs it.
    """

    def __init__(
        self,
        *,
        max_pixels: int = MAX_PIXELS,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        decoder: str = "zoo.inputs.apart:decoded",
    ) -> None:
        self.max_pixels = min(max_pixels, MAX_PIXELS)
        self.process = Confined(decoder, seconds=seconds, memory=memory)

    def __call__(self, data: bytes, name: str) -> "np.ndarray":
        """An image file's bytes as upright RGB: uint8 `(height, width, 3)`.

        Raises:
            InputError: as `zoo.inputs.image.load_pixels`; CorruptImageError also where the decoder died or took too long.
        """
        import numpy as np

        try:
            facts, content = self.process.ask(name, data, most=3 * self.max_pixels, max_pixels=self.max_pixels)
            height, width = facts.get("height"), facts.get("width")
            if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
                raise ConfinedError("gave no size", "lied")
            if len(content) != height * width * 3:
                raise ConfinedError("gave other pixels than it says", "lied")
        except ConfinedError as error:
            if error.reason == "memory":
                message = f"{name} needs too much memory to be decoded: scale it down"
                raise ImageTooLargeError(message, what=name) from error
            raise CorruptImageError(
                f"{name} is damaged, or made to do harm: its decoder {error}; save the image again as JPEG or PNG",
                what=name,
            ) from error
        return np.frombuffer(content, np.uint8).reshape(height, width, 3)

    def close(self) -> None:
        """Ends the process; the next image starts another."""
        self.process.close()


def decoded(data: bytes, name: str, max_pixels: int) -> Answer:
    """`zoo.inputs.image.decode` as a confined process answers."""
    pixels = decode(data, name, max_pixels)
    yield {"height": pixels.shape[0], "width": pixels.shape[1]}, pixels
