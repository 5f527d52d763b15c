"""What is seen of a training while it runs: the progress bar, and the curves for TensorBoard."""

from __future__ import annotations

import math
import sys
from pathlib import Path


def Bar(description: str, total: int, mode: str = "train", after=None):
    """A Keras callback that shows tqdm and calls `after` when a training step is done.

    A function, because a class would need Keras when this file is imported.
    """
    import keras
    from tqdm import tqdm

    class Bar(keras.callbacks.Callback):
        def _open(self, logs=None):
            self.bar = tqdm(total=total, desc=description, unit="batch", leave=False, disable=None, file=sys.stderr)

        def _step(self, batch, logs=None):
            if after is not None:
                after()
            self.bar.update(1)
            if logs and "loss" in logs:
                self.bar.set_postfix(loss=f"{float(logs['loss']):.4f}", refresh=False)

        def _close(self, logs=None):
            self.bar.close()

        if mode == "train":
            on_train_begin, on_train_batch_end, on_train_end = _open, _step, _close
        else:
            on_predict_begin, on_predict_end = _open, _close

            def on_predict_batch_end(self, batch, logs=None):
                self.bar.update(1)

    return Bar()


class Curves:
    """The TensorBoard log of a training: curves of training and validation in the same graphs."""

    def __init__(self, folder: Path):
        self._folder, self._writers = folder, {}

    def add(self, row: dict) -> None:
        """Adds one epoch's row of the history."""
        import tensorflow as tf

        for name, prefix in (("train", ""), ("validation", "val_")):
            if name not in self._writers:
                self._writers[name] = tf.summary.create_file_writer(str(self._folder / name))
            with self._writers[name].as_default(step=row["epoch"]):
                for metric in ("loss", "accuracy", "auc"):
                    if math.isfinite(row.get(prefix + metric, math.nan)):  # a cluster's training has no AUC
                        tf.summary.scalar(f"epoch_{metric}", row[prefix + metric])
                if not prefix:
                    tf.summary.scalar("learning_rate", row["learning_rate"])
            self._writers[name].flush()
