"""Networks opened by ONNX Runtime, all in one way."""

from __future__ import annotations

from pathlib import Path


def opened(path: str | Path, *, threads: int | None = None, one_shape: bool = True):
    """An `onnxruntime.InferenceSession` of a file, on the CPU.

    Args:
        threads: of one run; None: as ONNX Runtime thinks best.
        one_shape: of the inputs but for their number; else a plan of the memory would be kept for each shape.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # A waiting thread sleeps: with several worker processes on one machine spinning threads take the cores from those
    # that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = one_shape
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
