"""Which parts of a model work as in training: only what learns moves running statistics and draws dropout."""

from torch import nn


def training_mode(model: nn.Module, *, still_norms: bool = False) -> None:
    """Training mode for what learns, evaluation mode for what does not.

    A module whose parameters are all frozen is in evaluation mode with all that is in it: no buffer of it changes by a bit,
    and it draws neither dropout nor stochastic depth. One without parameters (dropout, a normalisation without weights)
    goes by the module around it, a normalisation with some by its own weights.

    Args:
        still_norms: running statistics stand still everywhere.
    """
    _set(model, True, still_norms)


def keeps_statistics(module: nn.Module) -> bool:
    """Whether a module normalises by statistics that it gathers while it is trained: batch normalisation of any kind."""
    return any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))


def apart(model: nn.Module, processes: int) -> str:
    """What several processes do each for their own rows, so that their figures are not those of one; "" for nothing."""
    learning = [module for module in model.modules() if module.training]
    found = ["draw dropout"] if any(map(_drops, learning)) else []
    found += ["measure batch statistics"] if any(map(keeps_statistics, learning)) else []
    if processes == 1 or not found:
        return ""
    return f"{processes} processes {' and '.join(found)} each for their own rows: figures are alike those of one, not equal"


def _drops(module: nn.Module) -> bool:
    """Whether a module draws dropout, by a module or by a share that is its own."""
    share = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else getattr(module, "dropout", 0.0)
    return isinstance(share, float) and share > 0


def _set(module: nn.Module, around: bool, still_norms: bool) -> None:
    """One module and those in it; `around` says whether the module around it learns."""
    parameters = list(module.parameters())
    learns = any(p.requires_grad for p in parameters) if parameters else around
    if keeps_statistics(module):
        own = list(module.parameters(recurse=False))
        learns = learns and not still_norms and (not own or any(p.requires_grad for p in own))
    module.training = learns
    for child in module.children():
        _set(child, learns, still_norms)
