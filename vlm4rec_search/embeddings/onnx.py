"""Networks in ONNX files, run by ONNX Runtime on the CPU."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.common.errors import RunError, first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def load_network(path: Path) -> "InferenceSession":
    """Return the network of an ONNX file. Its threads sleep while they wait, so that other work is not slowed.

    Raises:
        RunError: the file cannot be loaded.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # errors only; warnings are about optimisations and graphics cards
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common class of errors
        raise RunError(f"the network {path} cannot be loaded: {first_line(error)}") from None
