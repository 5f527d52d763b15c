"""TensorFlow made ready once a process: quiet, seeded, threads, GPU memory, number format."""

from __future__ import annotations

import logging
import os
import sys

from .. import cpus, unheard

#: "" or -1 hides the GPUs on purpose.
_HIDDEN = "CUDA_VISIBLE_DEVICES"


def quiet() -> None:
    """Imports TensorFlow without its chatter: what is on the screen is ours."""
    # Off by default on processors without AVX-512, where it more than doubles the speed of training (Lite0 at 128 px:
    # 57 images/s on two cores, 20 without). Results differ in the last bits between the two, not from run to run.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)  # "You are saving your model as an HDF5 file": on purpose
    unheard.tensorflow()


def _gpus() -> list:
    """TensorFlow's GPUs. The first question makes it look for one, and it complains where there is none ("failed call
    to cuInit").

    That is heard only where the machine has a GPU, which it then cannot use.
    """
    import tensorflow as tf

    found = []
    with unheard.stderr(
        lambda: not found and os.path.exists("/dev/nvidiactl") and os.environ.get(_HIDDEN) not in ("", "-1")
    ):
        found += tf.config.list_physical_devices("GPU")
    return found


def start(*, seed: int, workers: int | None = None, precision: str = "float32", announce: bool = True) -> None:
    """Seeds every generator, sets the threads and the number format of the layers that are built from now on.

    Args:
        seed: of Python, numpy and TensorFlow.
        workers: CPU threads of TensorFlow; unchanged if None, or when TensorFlow has already run something.
        precision: `float32`, `mixed_float16` (GPU) or `mixed_bfloat16` (newer GPU, TPU).
        announce: say in one line what it runs on.
    """
    quiet()
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    gpus = _gpus()
    try:
        if workers:
            tf.config.threading.set_intra_op_parallelism_threads(workers)
            tf.config.threading.set_inter_op_parallelism_threads(min(workers, 4))
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # TensorFlow is already running in this process: its threads and devices stay as they are
    if announce:
        text = f"{len(gpus)} GPU" if gpus else f"no GPU: running on the CPU ({workers or cpus.count()} threads)"
        print(text + (f", {precision}" if precision != "float32" else ""), file=sys.stderr)
