"""LoRA for torch's MultiheadAttention, whose query, key and value projection is no linear layer of its own."""

from typing import Any

from peft.tuners.lora.layer import MultiheadAttention
from torch import Tensor, nn
from torch.func import functional_call


class LoraAttention(MultiheadAttention):
    """peft's layer with a forward that leaves the weights alone; what is saved is the same.

    peft adds the change to the weight and subtracts it again around every call: the base drifts by a rounding error a
    step, and its parameters become new objects. Here the sum lives only inside the call. The output projection keeps an
    adapter for peft's sake, which is zero and stays zero: peft (0.21) counts it twice.
    """

    def forward(self, query: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        base = self.get_base_layer()
        if self.disable_adapters or self.merged:
            return base(query, *args, **kwargs)
        weight = base.in_proj_weight
        for adapter in self.active_adapters:
            if adapter in self.lora_A:
                weight = weight + self.get_delta_weight(adapter).to(weight.dtype)
        return functional_call(base, {"in_proj_weight": weight}, (query, *args), kwargs)

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool = True, adapter_names: list[str] | None = None
    ) -> nn.MultiheadAttention:
        """The plain layer again, its parameters the same objects in the same order."""
        base = self.get_base_layer()
        for adapter in adapter_names or self.active_adapters if merge else ():
            base.in_proj_weight.data += self.get_delta_weight(adapter).detach().to(base.in_proj_weight.dtype)
        base.out_proj = base.out_proj.get_base_layer()
        return base

    def _restore_weights(self) -> None:
        """Nothing was moved, so nothing comes back."""
