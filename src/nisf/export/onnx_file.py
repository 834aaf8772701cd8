"""ONNX files of priors and subjects, each verified against PyTorch before it is written."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from nisf.errors import BadSettingError, CannotFitError
from nisf.files import replacing
from nisf.prior.exportable import ROWS, Exportable

OPSET = 17
CLOSE = 1e-4
"""Maximum difference between the file's answers and PyTorch's."""


def onnx_bytes(exportable: Exportable, labels: tuple[str, ...]) -> tuple[bytes, float]:
    """Make an ONNX file; returns it and its largest difference from PyTorch, in ONNX Runtime on the examples.

    Args:
        exportable: the network and examples of its inputs.
        labels: names of the classes, which the file's metadata contain under the key ``nisf``.

    Raises:
        BadSettingError: onnx or onnxruntime is not installed.
        CannotFitError: the file's answers differ by more than `CLOSE`.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - needed below
    except ImportError as error:
        raise BadSettingError(
            f"ONNX files need the package {error.name}: pip install 'nisf[export]'"
        ) from error
    model = onnx.load_from_string(_traced(exportable))
    about = {**exportable.about, "labels": list(labels)}
    onnx.helper.set_model_props(model, {"nisf": json.dumps(about, sort_keys=True)})
    made = model.SerializeToString()
    away = difference(made, exportable)
    if not away <= CLOSE:
        raise CannotFitError(
            f"the ONNX file's answers would differ by {away:.1e} from PyTorch's; no file is written"
        )
    return made, away


def write_onnx(path: Path, exportable: Exportable, labels: tuple[str, ...]) -> float:
    """Write an ONNX file atomically; result, arguments and errors are those of `onnx_bytes`."""
    made, away = onnx_bytes(exportable, labels)
    with replacing(path) as temporary:
        temporary.write_bytes(made)
    return away


def difference(made: bytes, exportable: Exportable) -> float:
    """The largest difference of any output between ONNX Runtime and PyTorch on the examples, or NaN."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    # Other lengths than in the trace, which reveals dimensions that were traced as constants.
    inputs = exportable.others or {
        name: torch.cat([x, x]) if exportable.free.get(name, {}).get(0) == ROWS else x
        for name, x in exportable.inputs.items()
    }
    # Inputs that the network does not use are not in the file.
    asked = {entry.name: inputs[entry.name].numpy() for entry in session.get_inputs()}
    found = session.run(list(exportable.outputs), asked)
    with torch.inference_mode():
        wanted = exportable.network(*inputs.values())
    pairs = zip(found, wanted, strict=True)
    # Python's own maximum would pass over a NaN.
    return float(np.max([np.abs(np.asarray(ours) - truth.numpy()).max() for ours, truth in pairs]))


def _traced(exportable: Exportable) -> bytes:
    """The file without metadata."""
    file = io.BytesIO()
    inputs: tuple[Tensor, ...] = tuple(exportable.inputs.values())
    named = {**exportable.free, **exportable.outputs}
    axes: dict[str, Any] = {name: dict(free) for name, free in named.items()}
    with warnings.catch_warnings():
        # The tracer warns about itself, and about shapes that are constants of the network.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            exportable.network.eval(),
            inputs,
            cast("Any", file),  # streams work too, although the declared type excludes them
            input_names=list(exportable.inputs),
            output_names=list(exportable.outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()
