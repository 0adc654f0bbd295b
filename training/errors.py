"""Every exception of training that a caller may want to catch; `zoo.errors` has those of models, data and inputs."""

from zoo.errors import ZooError

# ------------------------------------------------------------------------------------------------------ what is asked


class RecipeError(ZooError, ValueError):
    """A recipe cannot be followed: an unknown name or field, a number out of its range, or nothing that would learn."""


class LossError(ZooError, ValueError):
    """No loss has this name or option, or it cannot be computed of these tensors; the message lists what there is."""


class SamplerError(ZooError, ValueError):
    """No sampler has this name or option, or these pairs cannot be put into such batches; the message says what to do."""


class AdapterError(ZooError, ValueError):
    """The layers that were to be adapted are not there, or cannot be adapted, trained or merged as was asked."""


class DifferentModelsError(ZooError, ValueError):
    """Models that cannot be merged: another architecture, vocabulary or shape, or other prompts, poolers or preprocessing of
    which nobody said which to keep; the message names what differs."""


# ----------------------------------------------------------------------------------------------------------- the data


class PairsError(ZooError, ValueError):
    """The pairs, or what stands beside them, cannot be trained on or measured as they are; the message says what to do."""


class UnreadColumnError(PairsError):
    """The data say something that matters and that the run does not read; the message names the ways on."""


class MiningError(ZooError, ValueError):
    """Nothing can be mined: no pairs, rules that leave nothing, or a corpus that is too small."""


# ------------------------------------------------------------------------------------------------------ runs and folders


class NoRunError(ZooError):
    """A folder holds no run."""


class DamagedRunError(NoRunError):
    """A file in a run's folder is not what a run writes, or none of its checkpoints is whole."""


class RecipeMismatchError(ZooError):
    """A folder holds a run of another recipe, or one that cannot be gone on with as asked."""


class CheckpointMismatchError(ZooError, ValueError):
    """A checkpoint, or the average that is stored in it, is of another model or of another starting point."""


class DivergedError(ZooError):
    """The loss is no longer a number."""


class ProcessesError(ZooError):
    """Processes that cannot train together: weights cannot be sharded as asked, or they hold different numbers of rows."""
