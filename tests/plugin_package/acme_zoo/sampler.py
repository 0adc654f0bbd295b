"""A sampler: the pairs as they lie in the file."""

import numpy as np
from zoo.training.samplers import BatchSampler, register_sampler


@register_sampler("acme_in_order")
class AcmeInOrder(BatchSampler):
    """Batches of neighbours, the same in every epoch."""

    def draw(self, epoch: int) -> np.ndarray:
        return self._cut(np.arange(len(self.data)))
