"""ONNX Runtime: an encoder traced by torch and written as ONNX."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.backends.base import Backend, register_backend
from zoo.encoders.program import Run

_FILE = "program.onnx"
_OPSET = 18


@register_backend("onnx")
class OnnxRuntime(Backend):
    """ONNX Runtime's CPU provider."""

    packages = ("onnxruntime", "onnx")
    extra = "onnx"

    def export(
        self, states: nn.Module, example: Sequence[Tensor], axes: Mapping[str, Sequence[str]], folder: Path
    ) -> None:
        # By tracing: torch's newer exporter takes a minute where this takes seconds, and specialises more shapes.
        torch.onnx.export(
            states,
            tuple(example),
            folder / _FILE,
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(axes),
            output_names=["states"],
            dynamic_axes={name: dict(enumerate(varying)) for name, varying in axes.items()}
            | {"states": {0: "batch", 1: "states"}},
        )

    def open(self, folder: Path, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # warnings of its optimiser are for those who build it
        session = onnxruntime.InferenceSession(folder / _FILE, options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]

        def run(tensors: Sequence[Tensor]) -> Tensor:
            inputs = {name: tensor.contiguous().numpy() for name, tensor in zip(names, tensors, strict=True)}
            return torch.from_numpy(session.run(None, inputs)[0])

        return run
