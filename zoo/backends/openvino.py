"""OpenVINO, Intel's runtime: an encoder traced by torch and converted, float32 whatever the processor prefers."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.backends.base import Backend, register_backend
from zoo.encoders.program import Run

_FILE = "program.xml"


@register_backend("openvino")
class OpenVino(Backend):
    """OpenVINO's CPU device."""

    packages = ("openvino",)
    extra = "openvino"

    def export(
        self, states: nn.Module, example: Sequence[Tensor], axes: Mapping[str, Sequence[str]], folder: Path
    ) -> None:
        import openvino

        shapes = [
            openvino.PartialShape([-1 if at < len(varying) else size for at, size in enumerate(tensor.shape)])
            for tensor, varying in zip(example, axes.values(), strict=True)
        ]
        model = openvino.convert_model(states, example_input=tuple(example), input=shapes)
        # Its default stores half precision.
        openvino.save_model(model, folder / _FILE, compress_to_fp16=False)

    def open(self, folder: Path, threads: int) -> Run:
        import openvino

        # The hint is for processors with bfloat16, where its default is that.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(folder / _FILE, "CPU", settings)
        requests = threading.local()  # a request is of one thread at a time

        def run(tensors: Sequence[Tensor]) -> Tensor:
            if not hasattr(requests, "own"):
                requests.own = compiled.create_infer_request()
            inputs: list[Any] = [tensor.contiguous().numpy() for tensor in tensors]
            return torch.from_numpy(requests.own.infer(inputs, share_inputs=True)[0])

        return run
