"""The detector's training data: every face of the shared data cut alike, once, into arrays on disk, with splits that do not leak.

    cache = data.prepare(Path("../shared/data"), work=Path("build/detector"), yunet=Path("../shared/weights/face_detection_yunet_2023mar.onnx"))
    table, images = cache.table, cache.images        # one row and one uint8 (CACHE_SIZE, CACHE_SIZE, 3) RGB image a face
    meshes = cache.meshes                            # 468 points of each real face of the training split, of which blends are made

Geometry. The DFDC crops are tight boxes from the brows to the chin, squashed to a square: the eyes lie at (0.30, 0.28) and (0.70, 0.28)
and the mouth at 0.70 of the height. A YuNet (or MTCNN) box reaches up the forehead. Measured on faces of both kinds, the same
window is a YuNet box with MARGIN around it of which TRIM is then cut off above and below. Faces from videos are cut so for training,
and `detector.runtime` cuts them so for prediction; otherwise a network would learn the data sets by how their faces are framed.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import atomic_path, sha256, write_csv, write_json
from ..labels import CLASS_FOLDERS
from .runtime import trim

#: Margin around a detected box, as part of its width and height, and what is cut off that crop above and below (parts of its height).
MARGIN = 0.09
TRIM = {"top": 0.19, "bottom": 0.09}

#: Side of the cached faces: a little more than the network sees, so that augmentation has pixels to zoom and shift in.
CACHE_SIZE = 224

#: Each c23 clip of the training split is also cut from copies that were compressed harder: name, CRF of x264 and part of the size. There are
#: few c40 clips to learn from; what reaches users was mostly encoded more than once. At CRF 35 the copies have as many bytes as the c40 files.
COPIES = {"crf 35": (35, 1.0), "crf 39": (39, 1.0), "half size": (30, 0.5)}

#: FaceForensics++ groups that are for validation only. Only three groups have c40 clips of all four manipulations: two of them are
#: here, because an AUC on c40 needs more than one pair of people. DFD actor 08 is the one with two clips.
VAL_GROUPS = ("ffpp_481", "ffpp_599", "ffpp_830", "ffpp_147", "dfd_actor_08")

TRAIN_FRAMES, VAL_FRAMES = 40, 32
DATASETS = ("dfdc", "ffpp", "dfd", "ffpp_faces", "stills")
POINTS = tuple(f"{p}_{a}" for p in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for a in "xy")
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")


@dataclass(frozen=True)
class Cache:
    """All faces. `table` has dataset, manipulation, video, group, split (train or val), label (1 real, 0 fake), time_s, the five
    points (0..1 of the crop; NaN where no face was found in it) and what of its frame the face is (BOX: left, top, right and bottom as
    parts of the frame's width and height; NaN where only the face is at hand); row i belongs to `images[i]`, uint8 RGB, memory-mapped, and to
    `meshes[i]`, the 468 points of `faces.mesh`, (468, 2) parts of width and height, for real faces of the training split, else NaN. Without
    meshes faces are blended by their five points."""

    table: "pandas.DataFrame"  # noqa: F821 (imported where it is used)
    images: np.ndarray
    meshes: np.ndarray | None = None

    def rows(self, **where) -> np.ndarray:
        """Row numbers where every named column has the given value (or one of the given values)."""
        keep = np.ones(len(self.table), bool)
        for column, value in where.items():
            keep &= self.table[column].isin([value] if isinstance(value, (str, int)) else list(value)).to_numpy()
        return np.flatnonzero(keep)


class FaceFinder:
    """YuNet on frames and on tight crops. One instance a process.

    Args:
        model: `face_detection_yunet_2023mar.onnx`.
        confidence: least score of a face.
    """

    #: Frames are detected at this width or height: faces of 40 px and more in 1080p are still found, at a tenth of the time.
    SIDE = 640

    def __init__(self, model: str | Path, confidence: float = 0.6):
        import cv2

        self._yunet = cv2.FaceDetectorYN.create(str(model), "", (320, 320), confidence, 0.3, 50)

    def biggest(self, frame: np.ndarray) -> tuple[tuple[float, float, float, float], np.ndarray] | None:
        """The box (x, y, width, height) and the five points (5, 2) of the largest face of a BGR frame in its pixels, or None."""
        import cv2

        scale = min(1.0, self.SIDE / max(frame.shape[:2]))
        small = frame if scale == 1 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._yunet.setInputSize((small.shape[1], small.shape[0]))
        found = self._yunet.detect(small)[1]
        if found is None:
            return None
        best = max(found, key=lambda f: f[2] * f[3]) / scale
        return tuple(float(v) for v in best[:4]), best[4:14].reshape(5, 2)

    def points_in_crop(self, crop: np.ndarray) -> np.ndarray:
        """The five points of a tight face crop (BGR, uint8) as parts of its width and height, (5, 2); NaN where no face is seen.

        YuNet needs to see more than the face: the crop is set in a grey frame of twice its size.
        """
        import cv2

        side = 96
        square = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        framed = cv2.copyMakeBorder(square, side // 2, side // 2, side // 2, side // 2, cv2.BORDER_CONSTANT, value=(127, 127, 127))
        self._yunet.setInputSize((2 * side, 2 * side))
        found = self._yunet.detect(framed)[1]
        if found is None:
            return np.full((5, 2), np.nan, np.float32)
        return ((max(found, key=lambda f: f[2] * f[3])[4:14].reshape(5, 2) - side / 2) / side).astype(np.float32)


def groups_of_pairs(names) -> dict[str, str]:
    """FaceForensics++ identities to groups: `AAA_BBB` joins AAA and BBB, and what is joined is one group.

    Args:
        names: file stems such as `000_003` (target 000, source 003) or `000`.

    Returns:
        {identity: smallest identity of its group}.
    """
    parent: dict[str, str] = {}

    def root(identity: str) -> str:
        parent.setdefault(identity, identity)
        while parent[identity] != identity:
            identity = parent[identity]
        return identity

    for name in names:
        first, *others = name.split("_")
        for other in others or [first]:
            a, b = sorted((root(first), root(other)))
            parent[b] = a
    return {identity: root(identity) for identity in parent}


def prepare(data: Path, work: Path, yunet: Path, *, workers: int | None = None) -> Cache:
    """Cuts all faces into `<work>/faces.npy` and `<work>/faces.csv` (about 28,000 faces, 4.2 GB, three minutes on two cores), or opens them if they stand.

    Args:
        data: the shared data folder; never written to.
        work: a folder for the cache.
        yunet: the face detector's file.

    Raises:
        UserError: when something is missing.
    """
    import pandas as pd
    from tqdm import tqdm

    _check(data, yunet)
    settings = {"margin": MARGIN, "trim": TRIM, "size": CACHE_SIZE, "val_groups": VAL_GROUPS, "train_frames": TRAIN_FRAMES,
                "val_frames": VAL_FRAMES, "copies": COPIES, "columns": POINTS + BOX, "detector": sha256(yunet)}
    stamp = work / "faces.json"
    import json

    if not stamp.is_file() or json.loads(stamp.read_text()) != json.loads(json.dumps(settings)):
        jobs = _jobs(data, pd)
        rows, images = [], []
        with ProcessPoolExecutor(workers or os.cpu_count(), initializer=_start_worker, initargs=(str(yunet),)) as pool:
            for made in tqdm(pool.map(_cut, jobs, chunksize=4), total=len(jobs), desc="cutting faces", unit="job"):
                for row, image in made:
                    rows.append(row)
                    images.append(image)
        wanted = [row["video"] for job in jobs for row in job.get("crops", [job])]
        if without := sorted(set(wanted) - {row["video"] for row in rows}):
            print(f"no face, or not readable: {len(without)} of {len(wanted)} files: {', '.join(without[:10])}{' ...' if len(without) > 10 else ''}")
        with atomic_path(work / "faces.npy") as partial, open(partial, "wb") as f:
            np.save(f, np.stack(images))
        write_csv(work / "faces.csv", pd.DataFrame(rows))
        write_json(stamp, settings)
    table = pd.read_csv(work / "faces.csv", dtype={"video": str, "group": str}, keep_default_na=True)
    cache = Cache(table, np.load(work / "faces.npy", mmap_mode="r"))
    return replace(cache, meshes=_meshes(cache, work, made_from=sha256(stamp)))


def _meshes(cache: Cache, work: Path, made_from: str) -> np.ndarray:
    """The meshes of the real training faces, found once and kept in `<work>/meshes.npy` (half a minute)."""
    import json

    from tqdm import tqdm

    from ..faces import mesh

    settings, stamp = {"faces": made_from, "model": sha256(mesh.MODEL), "around": mesh.AROUND, "least_score": mesh.LEAST_SCORE}, work / "meshes.json"
    if not stamp.is_file() or json.loads(stamp.read_text()) != settings:
        find, found = mesh.FaceMesh(), np.full((len(cache.table), mesh.POINTS, 2), np.nan, np.float16)
        for row in tqdm(cache.rows(split="train", label=CLASS_FOLDERS["real"]), desc="face meshes", unit="face"):
            found[row], _ = find(cache.images[row])
        with atomic_path(work / "meshes.npy") as partial, open(partial, "wb") as f:
            np.save(f, found)
        write_json(stamp, settings)
    return np.load(work / "meshes.npy")


def _check(data: Path, yunet: Path) -> None:
    for path in (data / "dfdc_faces" / "index.csv", data / "clips.csv", data / "ffpp_faces" / "index.csv", data / "real_stills", yunet):
        if not path.exists():
            raise UserError("the training data is not complete: this is missing", file=path,
                            hint="give the folder with --data and the detector's file with --yunet")


def _jobs(data: Path, pd) -> list[dict]:
    """What to cut: one job a video, or a bundle of stills; in a fixed order, so that the cache is the same on every machine."""
    jobs = []
    dfdc = pd.read_csv(data / "dfdc_faces" / "index.csv").sort_values(["split", "label", "video"])
    crops = [{"path": str(data / "dfdc_faces" / r.split / r.label / (Path(r.video).stem + ".jpg")), "dataset": "dfdc", "manipulation": "dfdc",
              "video": r.video, "group": Path(r.original).stem, "split": r.split, "label": CLASS_FOLDERS[r.label]} for r in dfdc.itertuples()]

    clips = pd.read_csv(data / "clips.csv")
    clips = clips[clips.dataset.isin(["ffpp", "dfd"])].sort_values("file")
    faces = pd.read_csv(data / "ffpp_faces" / "index.csv", dtype=str).sort_values("file")
    clip_stems = {f: Path(f).stem for f in clips[clips.dataset == "ffpp"].file}
    group = groups_of_pairs([*clip_stems.values(), *faces.identity])
    # A group of clips.csv is for validation; every crop whose identity is joined to it must be too.
    val_roots = {group[clip_stems[r.file].split("_")[0]] for r in clips.itertuples() if r.dataset == "ffpp" and r.group in VAL_GROUPS}
    for r in clips.itertuples():
        known = r.dataset == "ffpp"
        key = group[clip_stems[r.file].split("_")[0]] if known else r.group
        val = key in val_roots or r.group in VAL_GROUPS
        jobs.append({"kind": "clip", "path": str(data / r.file), "dataset": r.dataset, "manipulation": r.manipulation, "video": r.file,
                     "group": f"ffpp_{key}" if known else key, "split": "val" if val else "train", "label": CLASS_FOLDERS[r.label],
                     "frames": VAL_FRAMES if val else TRAIN_FRAMES})
        if not val and "c23" in r.manipulation:
            jobs += [jobs[-1] | {"copy": name, "video": f"{r.file}@{name}", "manipulation": f"{r.manipulation} {name}"} for name in COPIES]
    for r in faces.itertuples():
        key = group[r.identity.split("_")[0]]
        # Every fifth group, by its number, is for validation beside those of the clips.
        val = key in val_roots or (int(key) % 5 == 0 and f"ffpp_{key}" not in {j["group"] for j in jobs if j["split"] == "train"})
        crops.append({"path": str(data / "ffpp_faces" / r.file), "dataset": "ffpp_faces", "manipulation": "crops", "video": r.file,
                      "group": f"ffpp_{key}", "split": "val" if val else "train", "label": CLASS_FOLDERS[r.label]})
    jobs += [{"kind": "crops", "crops": crops[i:i + 100]} for i in range(0, len(crops), 100)]
    stills = sorted((data / "real_stills").glob("*.jpg"))
    jobs += [{"kind": "still", "path": str(p), "dataset": "stills", "manipulation": "stills", "video": p.name, "group": f"still_{p.stem}",
              "split": "train", "label": CLASS_FOLDERS["real"]} for p in stills]
    return jobs


_finder: FaceFinder | None = None


def _start_worker(yunet: str) -> None:
    import cv2

    global _finder
    cv2.setNumThreads(1)
    _finder = FaceFinder(yunet)


def _cut(job: dict) -> list[tuple[dict, np.ndarray]]:
    """The faces of one job."""
    from ..faces import pictures

    if job["kind"] == "crops":
        made = []
        for crop in job["crops"]:
            image = pictures.read(crop["path"])
            if image is not None:
                # Points are for blending, and only real faces are blended.
                points = _finder.points_in_crop(image) if crop["label"] == CLASS_FOLDERS["real"] else np.full((5, 2), np.nan)
                made.append(_row(crop, 0.0, image, points))
        return made
    if job["kind"] == "still":
        image = pictures.read(job["path"])
        return _cut_frame(job, 0.0, image) if image is not None else []
    if "copy" in job:
        with tempfile.TemporaryDirectory() as folder:
            compressed = Path(folder) / "copy.mp4"
            compress(job["path"], compressed, *COPIES[job["copy"]])
            return _cut_clip(job, compressed)
    return _cut_clip(job, job["path"])


def _cut_clip(job: dict, path: str | Path) -> list[tuple[dict, np.ndarray]]:
    import cv2

    made = []
    capture = cv2.VideoCapture(str(path))
    fps, count = capture.get(cv2.CAP_PROP_FPS) or 25.0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.linspace(0, max(0, count - 1), job["frames"]).round().astype(int).tolist())
    for index in range(count):
        if not capture.grab():
            break
        if index in wanted:
            read, frame = capture.retrieve()
            if read:
                made += _cut_frame(job, index / fps, frame)
    capture.release()
    return made


def compress(source: str | Path, target: Path, crf: int, part: float) -> None:
    """Writes `source` again as H.264 (x264), at `part` of its width and height.

    Args:
        crf: x264's constant rate factor: 23 is its default, more is smaller.
    """
    import av

    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        read = reader.streams.video[0]
        read.thread_count = 1
        written = writer.add_stream("libx264", rate=read.average_rate, options={"crf": str(crf), "preset": "veryfast", "threads": "1"})
        written.width, written.height = (max(2, round(side * part / 2) * 2) for side in (read.width, read.height))
        written.pix_fmt = "yuv420p"
        for number, frame in enumerate(reader.decode(read)):
            again = frame.reformat(written.width, written.height, "yuv420p", interpolation="AREA")
            again.pts, again.time_base, again.pict_type = number, 1 / read.average_rate, av.video.frame.PictureType.NONE
            writer.mux(written.encode(again))
        writer.mux(written.encode(None))


def _cut_frame(job: dict, time_s: float, frame: np.ndarray) -> list[tuple[dict, np.ndarray]]:
    from ..faces.crops import crop_face, widen

    found = _finder.biggest(frame)
    if found is None:
        return []
    crop = trim(crop_face(frame, found[0], MARGIN), TRIM)
    x0, y0, _, y1 = widen(found[0], MARGIN, frame.shape[1], frame.shape[0])
    origin, size = np.array([x0, trim(np.arange(y0, y1), TRIM)[0]]), np.array([crop.shape[1], crop.shape[0]])
    box = np.concatenate([origin, origin + size]) / np.tile([frame.shape[1], frame.shape[0]], 2)
    return [_row(job, time_s, crop, ((found[1] - origin) / size).astype(np.float32), box)]


def _row(job: dict, time_s: float, crop_bgr: np.ndarray, points: np.ndarray, box=(np.nan,) * 4) -> tuple[dict, np.ndarray]:
    import cv2

    from ..faces.crops import network_input

    row = {k: job[k] for k in ("dataset", "manipulation", "video", "group", "split", "label")} | {"time_s": round(time_s, 3)}
    row |= dict(zip(POINTS, points.round(4).ravel().tolist())) | dict(zip(BOX, np.round(box, 5).tolist()))
    return row, network_input(cv2.cvtColor(crop_bgr, cv2.COLOR_BGR2RGB), CACHE_SIZE)
