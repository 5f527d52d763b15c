"""Stage 03a: loads a trained model and gives every face its P(real), in the files that stage 03 writes."""

from __future__ import annotations

import sys
from pathlib import Path

from .. import files
from ..errors import UserError
from ..faces.settings import PUBLISHED_MARGIN  # stage 01a's, and so that of the faces in split_dataset
from ..models import model_file, registry
from ..places import hint_of_seeds
from ..stage_report import read_left_out
from . import margins, results, sequences, session
from .face_list import find_faces, titles_below
from .input_pipeline import WHOLE
from .known import groups_of
from .stores import card_of, part_of, predict, prediction_batch, store_for


def load(path: str | Path, *, model: str | None = None, image_size: int | None = None):
    """A Keras model from a `.keras` or `.h5` file of a whole model, or from weights of the architecture `model`.

    Raises:
        UserError: no such file, not a model, weights without `model`, weights that leave a layer without its own, or a
            whole model of another architecture or size than was said.
    """
    path = Path(path)
    if not path.is_file():
        raise _no_model(path)
    model_file.refuse_hostile(path)
    if path.name.endswith(".weights.h5") or (path.suffix == ".h5" and not _whole(path)):
        if model is None:
            raise UserError(
                "this file holds weights without an architecture",
                file=path,
                hint="name it with --architecture, one of: " + ", ".join(registry.names()),
            )
        built = registry.build(model, input_size=image_size)
        report = registry.load_into(built, path)
        if report.left:
            raise UserError(
                f"this file does not fill every layer of {model} (lacking: {', '.join(report.left[:5])})",
                file=path,
                hint="predicting needs a whole model; to train from a feature extractor use 03_train_cnn.py --weights",
            )
        return built
    return of_size(_of_architecture(model_file.load(path), model, path), image_size, path)


def _of_architecture(model, said: str | None, path: Path):
    """The whole model of a file, which must not be another of ours than --architecture says."""
    if said in (None, model.name):
        return model
    if model.name in registry.NAMES:
        raise UserError(f"this file holds a {model.name}, not a {said}", file=path, hint="leave --architecture out")
    print(f"note: --architecture does nothing here, {path} holds a whole model", file=sys.stderr)
    return model


def of_size(model, image_size: int | None, path: Path):
    """The model with its input's size fixed, where it takes pictures of any size (N, None, None, 3).

    Raises:
        UserError: it does, and `image_size` is None; or it takes those of another size only.
    """
    import keras

    shape = tuple(model.inputs[0].shape)
    side = shape[-2] if len(shape) >= 4 and shape[-3] == shape[-2] else None  # what is not square is refused elsewhere
    if side and image_size and side != image_size:
        raise UserError(
            f"this model takes faces of {side} x {side} pixels, not {image_size}",
            file=path,
            hint="leave --image-size out",
        )
    if len(model.inputs) > 1 or len(shape) != 4 or None not in shape[1:3]:
        return model
    size = image_size or shape[1] or shape[2]
    if size is None:
        raise UserError(
            "this model takes pictures of any size", file=path, hint="say which with --image-size, as it was trained"
        )
    image = keras.Input((size, size, shape[3]), name="image")
    return keras.Model(image, model(image), name=model.name)


def _no_model(path: Path) -> UserError:
    hint = hint_of_seeds(path, "train one with 03_train_cnn.py, or name one with --model-file")
    return UserError("there is no such model file", file=path, hint=hint)


def _whole(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "model_config" in file.attrs
    except OSError:
        raise UserError(
            "this is not a model file that can be read", file=path, hint="give a .keras, .h5 or .weights.h5 file"
        ) from None


def run(
    model_file: Path,
    faces_folder: Path,
    out: Path,
    *,
    model: str | None = None,
    image_size: int | None = None,
    batch_size: int = 32,
    faces_margin: float | None = None,
    frames: Path | None = None,
    known: dict[str, tuple[int, str]] | None = None,
    workers: int = 1,
    seed: int = 1,
    cache_mb: int | None = None,
) -> dict:
    """Stage 03a: P(real) of every face in `faces_folder` (real/ and fake/, or unlabelled), results as stage 03 writes
    them into `out`.

    Args:
        faces_margin: crop margin that the faces were cut with; None: stage 01a's record, else the published one.
        frames: folder with `<title>/faces/boxes.csv` (sequence models).
        known: title -> (label, group) of faces that lie as stage 01a wrote them; -1: no label.

    Returns:
        What metrics.json holds.

    Raises:
        UserError: see `load`; no faces.
    """
    if not model_file.is_file():
        raise _no_model(model_file)
    known = known or {}
    groups = groups_of(faces_folder.parent) | {title: group for title, (_, group) in known.items()}
    faces = find_faces(faces_folder, groups=groups, truth={title: label for title, (label, _) in known.items()})
    if faces_margin is None:
        margins.refuse_others(faces, frames)
        faces_margin = margins.of(faces.titles, frames)
    session.start(seed=seed, workers=workers)
    loaded = _of_one_probability(load(model_file, model=model, image_size=image_size), model_file)
    card = card_of(model_file)
    part = _part(card, faces_margin)
    with files.folder_lock(out, "03a_load_model"):
        sequence = len(loaded.inputs) > 1
        store = store_for(
            loaded,
            faces,
            tables=sequences.box_tables(faces, frames) if sequence else None,
            workers=workers,
            cache_mb=cache_mb,
            part=part,
            progress="reading faces",
        )
        unit = "sequences" if sequence else "faces"
        p_real = _scores(loaded, store, batch_size, unit, card, model_file)
        entry = results.model_entry(loaded, model_file, str(model_file))
        extra = {"stage": "03a_load_model", "set": str(faces_folder), "model": entry}
        _write_account(out, faces_folder, faces, store.unreadable, known)
        return results.write_results(
            out, store.faces, p_real, seed=seed, extra=extra, unit=unit, what=f"{faces_folder.name} set"
        )


def _write_account(out: Path, folder: Path, faces, unreadable: list[str], known: dict) -> None:
    """Also of the titles in `folder` without a face, and of those that stage 00 left out since."""
    absent = lambda titles: [(t, known.get(t, (-1, ""))[0]) for t in sorted(titles) if t not in faces.titles]
    empty, left_out = absent(titles_below(folder)), absent(read_left_out(folder))
    results.write_account(out, "03a_load_model", {folder.name: faces}, {folder.name: unreadable}, empty, left_out)


def _part(card: dict, faces_margin: float) -> tuple:
    """The part of a face's crop that a model with this card sees; said where it is not all, or more than there is."""
    wanted = card.get("margin", PUBLISHED_MARGIN)
    part = part_of(faces_margin, wanted, card["trim"]) if card else WHOLE
    if part != WHOLE:
        print(
            f"the model wants faces with a margin of {wanted:g}, these have {faces_margin:g}: it sees the part "
            f"{part[0]:.2f}..{part[2]:.2f} x {part[1]:.2f}..{part[3]:.2f} of each",
            file=sys.stderr,
        )
    if wanted > faces_margin + 1e-6:
        print(
            f"note: the model wants faces with a margin of {wanted:g}, these have only {faces_margin:g}; scores will "
            "be worse than they could be",
            file=sys.stderr,
        )
    return part


def _of_one_probability(model, file: Path):
    if tuple(model.output_shape[1:]) != (1,):
        raise UserError(
            f"this model does not give one P(real) (its output is {model.output_shape})",
            file=file,
            hint="stage 03a needs a model whose output is (N, 1)",
        )
    return model


def _scores(model, store, batch_size: int, unit: str, card: dict, file: Path):
    """P(real) (N,) of a store, calibrated where the model's card says how.

    Raises:
        UserError: scores outside 0..1.
    """
    flip = card.get("flip", False) and unit == "faces"
    p_real = predict(model, store, prediction_batch(model, batch_size), unit, flip=flip)
    if not ((p_real >= 0) & (p_real <= 1)).all():  # NaN as well
        raise UserError(
            "this model's output is no probability (it leaves 0..1)",
            file=file,
            hint="its last layer should be a sigmoid",
        )
    return calibrated(p_real, card["calibration"]) if card.get("calibration") else p_real


def calibrated(p_real, values: dict):
    """Scores as the model's description calibrates them, so that they are those of `predict.py`."""
    from ..aggregation.calibration import Calibration

    return Calibration.from_dict(values).apply(p_real)
