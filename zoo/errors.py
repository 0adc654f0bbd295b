"""Every exception that a caller of the zoo may want to catch, by what it is about; `zoo.training.errors` has those of training.

All are `ZooError`; whatever a single input can cause is an `InputError`. What only steers the zoo's own code stays where it is
caught.
"""


class ZooError(Exception):
    """Base of all errors of the zoo; its message says what came, what was expected and what to do."""


class ArgumentError(ZooError, TypeError, ValueError):
    """An argument of a call has a wrong type or value; nothing has been done yet. The message names it and the remedy."""


class MissingPackageError(ZooError, ImportError):
    """A library that only some need is not installed; the message says which extra brings it."""


class PackageVersionError(ZooError):
    """A package of weights is installed at another version than the one whose files are known; nothing of it was read."""


class DiskFullError(ZooError):
    """Something could not be written for want of space; what was written before is whole and stays."""


class WorkerError(ZooError):
    """A process that embeds on one of several devices died, or has another model; what was done before is kept."""


class NotOfferedError(ZooError, NotImplementedError):
    """Something of another library's classes that a model of the zoo does not have; the message says what there is instead."""


# --------------------------------------------------------------------------------------------- models and their folders


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


class OversizedError(UnrecognisedCheckpointError):
    """A checkpoint promises sizes that no model has, or that its own weights do not have; nothing was allocated."""


class MissingWeightsError(ZooError):
    """A checkpoint has no weights, or not those that its configuration promises."""


class DamagedPackageError(MissingWeightsError):
    """An installed package of weights lacks a file, or holds another one than was pinned; nothing of it was loaded."""


class AdapterMismatchError(MissingWeightsError, ValueError):
    """A saved adapter is for another model: layers are missing, left over or of another shape."""


class UnsafeCheckpointError(ZooError):
    """A checkpoint would have to run code or unpickle objects, and the caller did not allow it."""


class UnsafeFolderError(ZooError):
    """A folder that others may have made holds a link, a FIFO or a device where a file should be, or one that is far too large."""


class UntrustedFolderError(ZooError):
    """A folder that others made names what would be opened elsewhere; the user has to name it, or allow it, himself."""


class NotSavedError(ZooError):
    """What was written could not be opened again, or gave other vectors; nothing was put in its place."""


class NoSuchBlockError(ZooError, ValueError):
    """An encoder does not give the states of a block: it has fewer, or gives only its last."""


class BackendError(ZooError):
    """A backend cannot compute a model, or gives other vectors than torch; the message says what and by how much."""


class PromptError(ZooError, ValueError):
    """A prompt that the model does not have, or its name in the place of its text; the message lists the model's."""


class TokenVectorsError(ZooError, ValueError):
    """A model of late interaction has a vector for every token, where one vector per item is needed."""


class NormsLostError(ZooError, ValueError):
    """A model compares by dot product, and what was asked for drops or ignores the norms of its vectors."""


# ------------------------------------------------------------------------------------------- the Hub, and what goes out


class HubError(ZooError):
    """The Hub could not be reached, or does not have what was asked for."""


class NotOnHubError(HubError):
    """No such repository, revision or file; a private repository looks the same to who may not see it."""


class NoAccessError(HubError):
    """The token is missing, wrong or too weak, or terms of use were not accepted."""


class HubUnreachableError(HubError):
    """No network, or a Hub that answers with errors or is too busy: the same call may succeed later."""


class PartlyCachedError(HubUnreachableError):
    """The Hub is out of reach, and what the cache holds may be a part of the repository: it would give other vectors."""


class DamagedDownloadError(HubError):
    """Bytes that are not those that the Hub promises; they are never loaded, nor kept."""


class HubDiskFullError(HubError, DiskFullError):
    """There is no room for a download, or for what is to be published."""


class HubConflictError(HubError):
    """The repository exists already, or somebody else has changed it in the meantime."""


class NameTakenError(HubConflictError):
    """The repository exists and holds something; publishing would put this model in its place."""


class NotExportableError(ZooError):
    """A model has no form that a library loads; the message is the reason."""


class NotPublishableError(ZooError):
    """What was staged is not fit to be published: a loader departs, or the card breaks the Hub's rules."""


class InvalidCardError(ZooError, ValueError):
    """A card whose front matter is no YAML, or whose markers do not pair."""


class CertificateError(ZooError):
    """A certificate is damaged, of another format, or of another model; the message names the file."""


class NewerCertificateError(CertificateError):
    """A newer zoo wrote it."""


# ---------------------------------------------------------------------------------------- tables, bulk jobs and indexes


class TableError(ZooError):
    """A table cannot be read, or rows of it are not what they should be; the message names the file and the line or row."""


class NoSplitError(TableError):
    """There are no rows of the split that was asked for."""


class TooManyBadItemsError(ZooError):
    """A bulk job met more unusable items than `max_bad` allows."""


class SourceChangedError(ZooError):
    """The source is not the one that the vectors are of, or it is being changed while it is read."""


class FolderError(ZooError):
    """A folder for vectors cannot be used: it is a file, not writable, holds something else, or is in use by another process."""


class DamagedShardError(ZooError):
    """A shard on disk cannot be read or does not belong here; the message says which file."""


class FingerprintMismatchError(ZooError):
    """Vectors on disk were made by another model, prompt or preprocessing than the one in use."""


class ExportError(ZooError):
    """Vectors cannot be written as asked for: the place is taken or cannot be written, or a library is missing."""


class IndexStateError(ZooError):
    """There is no usable index where one was to be opened."""


class ReadOnlyIndexError(IndexStateError):
    """An index cannot be written where it would lie."""


class VectorError(ZooError, ValueError):
    """A vector that cannot be stored or searched with: wrong length, NaN, infinite, or zero."""


class FilterError(ZooError, ValueError):
    """A filter that is not understood, or that names a column or a value which cannot be there; says at which word."""


# ----------------------------------------------------------------------------------------------------------- evaluation


class UnknownTaskError(ZooError):
    """No pack, task or benchmark has this name; the message lists the nearest names."""


class TaskFileError(ZooError, ValueError):
    """A task file of `zoo eval` cannot be followed; the message names it, and what is wrong."""


class MissingPackError(ZooError):
    """A data pack is not where training, evaluation or a test looked for it."""


class InvalidQueriesError(ZooError, ValueError):
    """A file holds no free-form queries that can be asked of the data packs; the message names it, and what is wrong."""


class NoResultError(ZooError):
    """A task gave no figure: its data cannot be had, or the model does not read it."""


class TooFewPairsError(ZooError, ValueError):
    """There are no pairs to measure with, or too few."""


class ScoresMismatchError(ZooError):
    """Two scores are not over the same queries and candidates."""


class QuestionsError(ZooError, ValueError):
    """Data of one's own asks nothing that can be measured; the message says where, and what to do. Its kinds follow."""


class NoRightAnswerError(QuestionsError):
    """A query has no right answer among the candidates: it could only be scored as zero."""


class NoCandidatesError(QuestionsError):
    """There is nothing to be ranked: a list of candidates is empty."""


class NotACandidateError(QuestionsError):
    """A right answer is named that is not among the candidates."""


class DuplicateIdError(QuestionsError):
    """Two queries, or two candidates, have one id: which of them an answer means cannot be told."""


class OneClassError(QuestionsError):
    """All items are of one class, or all pairs of one verdict or grade: nothing can be told apart."""


class NothingFitsError(ZooError):
    """No model that was compared is within the budget; the message says what keeps each out."""


class ResultsError(ZooError, ValueError):
    """A file holds no results; the message names it, and what is wrong."""


# ------------------------------------------------------------------------------------------------------------ one input


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


class OutOfMemoryError(InputError, MemoryError):
    """One input needs more memory than the device has beside the model; of several together fewer are computed at once instead."""

    code = "out-of-memory"


class MissingFileError(InputError):
    """A path that does not exist, or is not a readable regular file."""

    code = "missing-file"


class DeletedError(InputError):
    """An input whose vector was deleted by `zoo index delete`: it is not embedded again unless that is asked for."""

    code = "deleted"


class NotMediaError(InputError):
    """Bytes or a file whose content is no image, audio or video that the zoo reads."""

    code = "not-media"


class UnreadHeifError(NotMediaError):
    """A HEIC/HEIF image where none is decoded: pillow-heif is absent, its libheif has known faults, or it was not enabled."""

    code = "unread-heif"


class CorruptImageError(InputError):
    """An image that begins well and cannot be decoded to its end."""

    code = "corrupt-image"


class ImageTooLargeError(InputError):
    """An image with more pixels, or a file with more bytes, than is decoded."""

    code = "image-too-large"


class CorruptVideoError(InputError):
    """A video that begins well and cannot be decoded: damaged, cut off, or of a codec that is not known."""

    code = "corrupt-video"


class VideoTooLargeError(InputError):
    """A video with more pixels, or a file with more bytes, than is decoded."""

    code = "video-too-large"


class CorruptDocumentError(InputError):
    """A PDF that is damaged, cut off, without pages, or made to do harm."""

    code = "corrupt-document"


class EncryptedDocumentError(InputError):
    """A PDF that opens with a password alone."""

    code = "encrypted-document"


class DocumentTooLargeError(InputError):
    """A PDF with more bytes, pages or pixels than is read, or that takes too long to draw."""

    code = "document-too-large"


class NoSuchPageError(InputError):
    """The number of a page that a document does not have; pages are counted from 1."""

    code = "no-such-page"


class CorruptAudioError(InputError):
    """Audio that begins well and cannot be decoded: damaged, cut off, or of a codec that is not known."""

    code = "corrupt-audio"


class AudioTooLongError(InputError):
    """Audio with more samples, or a file with more bytes, than is decoded at once; segments of it can be read."""

    code = "audio-too-long"


class InvalidAudioError(InputError):
    """A waveform that is none: no samples, NaN, infinite, of an unknown shape, range or rate; or a file without an audio track."""

    code = "invalid-audio"


class SilentAudioError(InputError):
    """A query of silence: its vector says nothing, and what is near it is no answer. (Elsewhere silence is embedded, and said.)"""

    code = "silent-audio"


class NoFramesError(InputError):
    """A segment of a video that begins after its end."""

    code = "no-frames"


class InvalidPixelsError(InputError):
    """An array that is no image: wrong shape, NaN, infinite, or an unknown range."""

    code = "invalid-pixels"


class InvalidRegionError(InputError):
    """A region that cannot be read: coordinates that are none, outside the image or of no area, a mask of another size, no image."""

    code = "invalid-region"


class InvalidMediaError(InputError):
    """Audio or video of a task of mteb that is no waveform or has no known layout of frames."""

    code = "invalid-media"


class EmptyTextError(InputError):
    """A text without a visible character."""

    code = "empty-text"


class InvalidTextError(InputError):
    """A text that is not Unicode (lone surrogates) or too long to be meant."""

    code = "invalid-text"


class TooManyTokensError(InputError):
    """An item whose images and videos alone are longer than the model reads."""

    code = "too-many-tokens"


class UnreadableTextError(InputError):
    """A text of which the model's vocabulary knows nothing: every token stands for "unknown"."""

    code = "unreadable-text"


class TextTooLongError(InputError):
    """A text of more tokens than the model reads, where it was asked that nothing be cut."""

    code = "text-too-long"


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


# --------------------------------------------------------------------------------------------- one row, file or address


class BadRowError(TableError, InputError):
    """One row is no pair: a trainer may leave it out and go on."""

    code = "bad-row"


class MissingWordError(BadRowError):
    """A text such as "nan" often stands for a missing value: the user must say whether it is meant as it stands."""


class FileNameError(InputError):
    """A file whose name is not Unicode, so that it could not be named in a table."""

    code = "file-name"


class OutsideError(InputError):
    """A file outside of the folder that was given is named in it, or linked to."""

    code = "outside"


class UnreadableFolderError(InputError):
    """A folder inside the source that may not be opened."""

    code = "unreadable-folder"


class UnreadableEntryError(InputError):
    """An entry of a folder that cannot be looked at: a link that leads in a circle or through a file, or no permission."""

    code = "unreadable-entry"


class FetchError(InputError):
    """A URL that may not be fetched, or did not give what was asked for within its limits."""

    code = "url-not-fetched"
