"""What a training leaves between epochs: the state that the next one depends on, and the best model so far.

Own code, because Keras' `BackupAndRestore` does not keep the promise that a resumed training ends in the same weights:
it leaves out the state of the dropout generators (tests/training shows it), the count of `EarlyStopping` and the best
loss of `ModelCheckpoint`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import UserError
from ..models.sequence import extractor_and_head
from .settings import Settings
from .start import architecture
from .stores import face_size

#: Of the folder of checkpoints.
STATE, BEST = "training_state.npz", "best_model.keras"


@dataclasses.dataclass
class Progress:
    """Where a training stands after `epoch` finished epochs."""

    fingerprint: str
    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    wait: int = 0
    history: list[dict] = dataclasses.field(default_factory=list)

    def finished(self, epochs: int, patience: float) -> bool:
        return self.epoch >= epochs or self.wait >= patience

    def count(self, row: dict, better: bool) -> None:
        """Counts a finished epoch: its row of the history, and whether it is the best so far."""
        if better:
            self.best, self.best_epoch = row.get("val_loss", math.inf), self.epoch
        self.epoch, self.wait = self.epoch + 1, 0 if better else self.wait + 1
        self.history.append(row)


def fingerprint(settings: Settings, digests: dict[str, str]) -> str:
    """A hash of what decides the weights of each epoch: a state file of another fingerprint is not continued.

    `patience` is left out, and `epochs` where the schedule does not depend on it: raising them continues a finished
    training.
    """
    fields = dataclasses.asdict(settings)
    del fields["patience"]
    if settings.schedule == "constant":
        del fields["epochs"]
    if Path(settings.weights).is_file():
        fields["weights"] = files.sha256(settings.weights)
    return mark_of([fields, digests])


def mark_of(what) -> str:
    """A short hash of anything that JSON holds."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def save_state(path: Path, progress: Progress, variables: list, write: bool = True) -> None:
    """Everything the next epoch depends on, in one file, written aside and renamed.

    Every worker of a cluster must call it, because reading some variables needs all of them; `write` says which one
    writes.
    """
    values = (v.numpy() if hasattr(v, "numpy") else v for v in variables)
    arrays: dict[str, Any] = {f"v{i}": np.asarray(v) for i, v in enumerate(values)}
    if not write:
        return
    # JSON has no infinity, and a run that never had a finite loss has an infinite best.
    text = json.dumps({**dataclasses.asdict(progress), "best": None if math.isinf(progress.best) else progress.best})
    with files.atomic_path(path) as partial, open(partial, "wb") as f:
        np.savez(f, progress=np.frombuffer(text.encode(), np.uint8), **arrays)


def read_progress(path: Path) -> Progress | None:
    """The progress in a state file; None when there is no file or it cannot be read (a training then starts anew)."""
    try:
        with np.load(path) as state:
            fields = json.loads(bytes(state["progress"]))
        return Progress(**{**fields, "best": math.inf if fields["best"] is None else fields["best"]})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        print(f"note: the state of an earlier training cannot be read and is not used: {path}", file=sys.stderr)
        return None


def load_state(path: Path, variables: list) -> None:
    """Fills the variables of a training from a state file.

    Raises:
        UserError: when it is of another model (the fingerprint should have told).
    """
    with np.load(path) as state:
        if len(state.files) - 1 != len(variables) or any(
            state[f"v{i}"].shape != tuple(v.shape) for i, v in enumerate(variables)
        ):
            raise UserError(
                "the state of the interrupted training does not fit this model",
                file=path,
                hint="start anew with --force",
            )
        for i, variable in enumerate(variables):
            variable.assign(state[f"v{i}"])


def resume(path: Path, variables: list, mark: str, ends: tuple[int, float], *, fresh: bool = False) -> Progress:
    """Fills the variables from the state of an earlier training of the same mark; a new training where there is none.

    Args:
        ends: epochs and patience.
        fresh: do not look for one.

    Returns:
        Where the training stands.
    """
    progress = None if fresh else read_progress(path)
    if progress is not None and progress.fingerprint != mark:
        print("note: settings or data are not those of the earlier training here; starting anew", file=sys.stderr)
        progress = None
    if progress is None:
        return Progress(mark)
    load_state(path, variables)
    if progress.epoch and not progress.finished(*ends):
        print(f"going on after epoch {progress.epoch} of {ends[0]}", file=sys.stderr)
    return progress


def saveable(model):
    """The same model without its training: saved so, plain `keras.models.load_model` opens it."""
    import keras

    return keras.Model(model.inputs, model.outputs, name=model.name)


def save_model(model, folder: Path) -> None:
    """`best_model.keras`, and of frame models `best_model.h5` (HDF5 cannot hold a sequence model's operations)."""
    names = ["best_model.keras"] + ["best_model.h5"] * (len(model.inputs) == 1)
    if len(names) == 1:
        (folder / "best_model.h5").unlink(missing_ok=True)  # an earlier run's would be taken for this one's
    for name in names:
        with files.atomic_path(folder / name) as partial:
            model.save(partial)


def write_card(out: Path, card: dict) -> None:
    """`tmp_checkpoint/best_model.json`: which part of a crop the model beside it sees, and whether also its mirror
    image.

    Without a card (the model sees whole crops) one of an earlier run is removed. No calibration: the scores are the
    network's own.
    """
    path = out / "tmp_checkpoint" / "best_model.json"
    if card:
        files.write_json(path, {"margin": card["margin"], "trim": card["trim"], "flip": card["flip"]})
    else:
        path.unlink(missing_ok=True)


class Twin:
    """The trained model built anew in float32 on one device, and filled when called: (the part to validate with, the
    whole to save).

    A file in half precision would be slow on a CPU and less exact everywhere; a strategy's variables are no plain
    model's.
    """

    def __init__(self, model, settings: Settings):
        import keras

        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            self._twin = architecture(settings, face_size(model))
        finally:
            keras.config.set_dtype_policy(before)
        self._model = model

    def __call__(self):
        self._twin.set_weights(self._model.get_weights())
        return extractor_and_head(self._twin)[1], saveable(self._twin)
