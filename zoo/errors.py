"""Every exception the zoo raises by name. All are `ZooError`; whatever a single input can cause is an `InputError`."""


class ZooError(Exception):
    """Base of all errors of the zoo; its message says what came, what was expected and what to do."""


class ArgumentError(ZooError, TypeError, ValueError):
    """An argument of a call has a wrong type or value; nothing has been done yet. The message names it and the remedy."""


class UnknownModelError(ZooError):
    """No registered model has this name; the message lists the nearest names."""


class UnrecognisedCheckpointError(ZooError):
    """A folder or repository holds no layout that the zoo can read; the message lists the files looked for."""


class UnreadSettingError(UnrecognisedCheckpointError):
    """A file of a checkpoint has a setting that the zoo does not follow, so that the vectors would not be its author's.

    Attributes:
        keys: the settings, as `load_model(ignore=[...])` takes them.
    """

    def __init__(self, message: str, keys: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.keys = keys


class MissingWeightsError(ZooError):
    """A checkpoint has no weights, or not those that its configuration promises."""


class UnsafeCheckpointError(ZooError):
    """A checkpoint would have to run code or unpickle objects, and the caller did not allow it."""


class UnsafeFolderError(ZooError):
    """A folder that others may have made holds a link, a FIFO or a device where a file should be, or one that is far too large."""


class NotSavedError(ZooError):
    """What was written could not be opened again, or gave other vectors; nothing was put in its place."""


class NotOfferedError(ZooError, NotImplementedError):
    """Something of another library's classes that a model of the zoo does not have; the message says what there is instead."""


class HubError(ZooError):
    """The Hub could not be reached, or does not have what was asked for."""


class FingerprintMismatchError(ZooError):
    """Vectors on disk were made by another model, prompt or preprocessing than the one in use."""


class TokenVectorsError(ZooError, ValueError):
    """A model of late interaction has a vector for every token, where one vector an item is needed."""


class NormsLostError(ZooError, ValueError):
    """A model compares by dot product, and what was asked for drops or ignores the norms of its vectors."""


class PromptError(ZooError, ValueError):
    """A prompt that the model does not have, or its name in the place of its text; the message lists the model's."""


class TooManyBadItemsError(ZooError):
    """A bulk job met more unusable items than `max_bad` allows."""


class InputError(ZooError, ValueError):
    """One input cannot be embedded.

    Attributes:
        code: reason, the same word in logs, quarantine files and APIs.
        index: position of the item in the caller's list, None where there is none.
        what: the offending item, shortened for reading.
    """

    code = "bad-input"

    def __init__(self, message: str, *, what: str = "", index: int | None = None) -> None:
        super().__init__(message)
        self.what = what
        self.index = index

    def at(self, index: int) -> "InputError":
        """The same error, which now also says at which position of the input it happened."""
        self.index = index
        return self

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.index is None else f"item {self.index}: {message}"


class MissingFileError(InputError):
    """A path that does not exist, or is not a readable regular file."""

    code = "missing-file"


class NotMediaError(InputError):
    """Bytes or a file whose content is no picture, sound or film that the zoo reads."""

    code = "not-media"


class UnreadHeifError(NotMediaError):
    """A HEIC/HEIF image where none is decoded: pillow-heif is absent, its libheif has known faults, or it was not enabled."""

    code = "unread-heif"


class CorruptImageError(InputError):
    """A picture that begins well and cannot be decoded to its end."""

    code = "corrupt-image"


class ImageTooLargeError(InputError):
    """A picture with more pixels, or a file with more bytes, than is decoded."""

    code = "image-too-large"


class CorruptVideoError(InputError):
    """A film that begins well and cannot be decoded: damaged, cut off, or of a codec that is not known."""

    code = "corrupt-video"


class VideoTooLargeError(InputError):
    """A film with more pixels, or a file with more bytes, than is decoded."""

    code = "video-too-large"


class InvalidPixelsError(InputError):
    """An array that is no picture: wrong shape, NaN, infinite, or an unknown range."""

    code = "invalid-pixels"


class EmptyTextError(InputError):
    """A text without a visible character."""

    code = "empty-text"


class InvalidTextError(InputError):
    """A text that is not Unicode (lone surrogates) or too long to be meant."""

    code = "invalid-text"


class TooManyTokensError(InputError):
    """An item whose pictures and films alone are longer than the model reads."""

    code = "too-many-tokens"


class UnreadableTextError(InputError):
    """A text of which the model's vocabulary knows nothing: every token stands for "unknown"."""

    code = "unreadable-text"


class UnsupportedInputError(InputError):
    """A Python object that is no input of the zoo."""

    code = "unsupported-type"


class UnsupportedModalityError(InputError):
    """The model has no tower for the modalities of this item."""

    code = "unsupported-modality"


class EmptyItemError(InputError):
    """An `Item` with nothing in it."""

    code = "empty-item"


class NonFiniteEmbeddingError(InputError):
    """The model gave NaN, infinity or a zero vector for an item, as half precision can."""

    code = "non-finite"
