import cv2
import numpy as np
import pandas as pd
import pytest

from deepfake_detection.detector import data
from deepfake_detection.detector.batches import SHARES, SOURCES, Batches, _chances, altered, moved, recode
from deepfake_detection.detector.data import groups_of_pairs
from deepfake_detection.detector.train import Settings, _learning_rate, _size_at
from deepfake_detection.errors import UserError
from tests import clips


@pytest.mark.parametrize("names, same, apart", [
    (["000_003", "000", "003"], [("000", "003")], []),
    (["000_003", "003_010", "011"], [("000", "010")], [("000", "011")]),       # joined through 003
    (["005", "006"], [], [("005", "006")]),
    (["010_002", "001_010"], [("001", "002")], []),
])
def test_identity_groups(names, same, apart):
    group = groups_of_pairs(names)
    assert all(group[a] == group[b] for a, b in same)
    assert all(group[a] != group[b] for a, b in apart)


def test_no_identity_is_on_both_sides(shared):
    jobs = data._jobs(shared / "data", pd)
    rows = [row for job in jobs for row in (job["crops"] if job["kind"] == "crops" else [job])]
    sides: dict = {}
    for row in rows:
        # Every identity of the name counts, not only the group that was given to it.
        names = data.Path(row["video"]).stem.removeprefix("ffpp_").split("_")
        keys = [f"ffpp_{n}" for n in names[:2] if n.isdigit() and len(n) == 3] if row["dataset"].startswith("ffpp") else []
        for key in [*keys, row["group"]]:
            sides.setdefault(key, set()).add(row["split"])
    assert not [k for k, s in sides.items() if len(s) > 1]
    assert "Celeb" not in str(rows)
    val = [r for r in rows if r["split"] == "val" and r["dataset"] == "ffpp"]
    assert {r["label"] for r in val if "c40" in r["manipulation"]} == {0, 1}


def test_missing_data_is_said(tmp_path):
    with pytest.raises(UserError, match="not complete"):
        data.prepare(tmp_path, tmp_path / "work", tmp_path / "yunet.onnx")


class Spy:
    """The images, with a note of every row read."""

    def __init__(self, images, seen: list):
        self.images, self.seen = images, seen

    def __getitem__(self, i):
        self.seen.append(i)
        return self.images[i]


def test_batches_are_balanced_in_every_source_and_only_of_the_training_split(small_cache):
    rows, seen = small_cache.table, []
    batches = Batches(data.Cache(rows, Spy(small_cache.images, seen)), Settings())
    faces, labels = batches(0)
    assert faces.shape == (64, data.CACHE_SIZE, data.CACHE_SIZE, 3) and faces.dtype == np.uint8
    assert labels.sum() == 32 and labels.shape == (64,)
    read = rows.iloc[seen]
    assert (read.split == "train").all()
    assert set(read.dataset) == {d for s in SHARES for d in SOURCES[s]} - {"dfd"}


def test_labels_say_real_for_faces_that_are_untouched(small_cache):
    """Every face labelled 1 is a real row of the cache, byte for byte, and no face labelled 0 is: polarity and blending at once."""
    real = {small_cache.images[i].tobytes() for i in small_cache.rows(label=1, split="train")}
    faces, labels = Batches(small_cache, Settings())(3)
    for face, label in zip(faces, labels):
        assert (face.tobytes() in real) == (label == 1)


def test_blends_by_mesh_are_of_the_training_split_and_of_other_groups(meshed_cache):
    table, seen = meshed_cache.table, []
    batches = Batches(data.Cache(table, Spy(meshed_cache.images, seen), meshed_cache.meshes), Settings())
    meshed = np.flatnonzero(np.isfinite(meshed_cache.meshes[:, 0, 0]))
    assert set(batches._likes) == set(batches._poses) == set(meshed)
    for row, likes in [*batches._likes.items(), *batches._poses.items()]:
        assert len(likes) > 0 and set(likes) <= set(meshed) and table["group"][row] not in set(table["group"][likes])
    real = {meshed_cache.images[i].tobytes() for i in meshed_cache.rows(label=1, split="train")}
    for step in range(4):
        faces, labels = batches(step)
        assert faces.shape == (64, data.CACHE_SIZE, data.CACHE_SIZE, 3) and labels.sum() == 32
        assert all((face.tobytes() in real) == (label == 1) for face, label in zip(faces, labels))
    assert (table.iloc[seen].split == "train").all()


def test_faces_of_one_group_alone_are_blended_by_their_points(meshed_cache):
    """Where every other face is of the same group there is nobody to swap with or to take an expression from."""
    table = meshed_cache.table.assign(group="one")
    batches = Batches(data.Cache(table, meshed_cache.images, meshed_cache.meshes), Settings())
    assert not any(len(likes) for likes in batches._likes.values())
    faces, labels = batches(0)
    assert len(faces) == 64 and labels.sum() == 32


def test_a_swap_takes_a_face_of_the_same_pose(meshed_cache):
    """Half of the faces are turned: each is given others that are turned as it is."""
    meshes = meshed_cache.meshes.copy()
    rows = np.flatnonzero(np.isfinite(meshes[:, 0, 0]))
    turned = rows[[int(video[-1]) % 2 == 0 for video in meshed_cache.table.video[rows]]]
    meshes[turned, :, 0] = meshes[turned, :, 0] ** 2
    few = data.Cache(meshed_cache.table, np.zeros_like(meshed_cache.images), meshes)
    for row, likes in Batches(few, Settings())._likes.items():
        assert all((like in turned) == (row in turned) for like in likes[:5])


def test_meshed_batches_are_a_function_of_seed_and_step(meshed_cache):
    one, again, next_step = (Batches(meshed_cache, Settings())(step)[0] for step in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert (one != next_step).any()


def test_meshes_are_found_once_and_only_for_real_training_faces(project, tmp_path, small_cache, monkeypatch):
    from tests.clips import scene

    from deepfake_detection.faces import mesh

    table = small_cache.table.iloc[::6].reset_index(drop=True)
    face = cv2.resize(scene([(320, 180)], 260)[135:240, 280:375, ::-1], (data.CACHE_SIZE, data.CACHE_SIZE))
    cache = data.Cache(table, np.stack([face] * len(table)))
    found = data._meshes(cache, tmp_path, made_from="a")
    wanted = (table.split == "train") & (table.label == 1)
    assert found.shape == (len(table), mesh.POINTS, 2) and (np.isfinite(found[:, 0, 0]) == wanted).all()
    monkeypatch.setattr(mesh, "FaceMesh", None)                                     # not asked again
    np.testing.assert_array_equal(data._meshes(cache, tmp_path, made_from="a"), found)
    with pytest.raises(TypeError):
        data._meshes(cache, tmp_path, made_from="b")                                # other faces: it is


def test_a_fake_stands_beside_its_own_original(small_cache):
    read = []
    batches = Batches(data.Cache(small_cache.table, Spy(small_cache.images, read)), Settings())
    for step in range(5):
        read.clear()
        batches(step)
        rows = small_cache.table.iloc[read]
        for source in ("dfdc", "ffpp", "ffpp_faces"):
            some = rows[rows.dataset == source]
            assert set(some[some.label == 0].group) <= set(some[some.label == 1].group)


def test_batches_are_a_function_of_seed_and_step(small_cache):
    def batch(seed, step):
        return Batches(small_cache, Settings(seed=seed))(step)[0]

    np.testing.assert_array_equal(batch(1, 5), batch(1, 5))
    assert (batch(1, 5) != batch(1, 6)).any() and (batch(1, 5) != batch(2, 5)).any()


@pytest.mark.parametrize("settings, gone", [(Settings(without=("ffpp",)), {"ffpp", "ffpp_faces"}), (Settings(without=("dfdc",)), {"dfdc"}),
                                            (Settings(blends=0.0), {"stills"})])
def test_left_out_sources_are_never_read(small_cache, settings, gone):
    batches = Batches(small_cache, settings)
    faces, labels = batches(0)
    assert abs(labels.mean() - 0.5) < 0.05 and 56 <= len(labels) <= 72
    assert not {source for source, _ in batches._videos} & gone


@pytest.mark.parametrize("without, gone", [("dfdc", {"dfdc"}), ("ffpp", {"ffpp", "dfd", "ffpp_faces"})])
def test_what_is_left_out_is_not_blended_in_either(meshed_cache, without, gone):
    """A swap takes its inside from any source's faces: not from one that the run must not see."""
    table, seen = meshed_cache.table, []
    batches = Batches(data.Cache(table, Spy(meshed_cache.images, seen), meshed_cache.meshes), Settings(without=(without,)))
    assert batches._likes
    for likes in [*batches._likes.values(), *batches._poses.values()]:
        assert not set(table.dataset[likes]) & gone
    for step in range(3):
        batches(step)
    assert not set(table.dataset[seen]) & gone


def test_without_blends_no_likes_are_looked_for(meshed_cache):
    seen = []
    batches = Batches(data.Cache(meshed_cache.table, Spy(meshed_cache.images, seen), meshed_cache.meshes), Settings(blends=0.0))
    assert not batches._likes and not batches._poses and not seen


@pytest.mark.parametrize("part, dfdc, stills", [(1.0, (21, 11, 10), (1, 0, 1)), (0.5, (21, 16, 5), (1, 0, 1)),
                                                (0.0, (22, 22, 0), None)])          # without the stills the 64 faces are shared out anew
def test_given_fakes_take_the_place_of_blends_that_are_not_made(small_cache, part, dfdc, stills):
    read = []
    batches = Batches(data.Cache(small_cache.table, Spy(small_cache.images, read)), Settings(blends=part))
    assert batches._shares["dfdc"] == dfdc and batches._shares.get("stills") == stills
    _, labels = batches(0)
    given = small_cache.table.iloc[read].query("label == 0")
    assert len(given) == sum(fakes for _, fakes, _ in batches._shares.values())
    assert labels.mean() == pytest.approx(0.5)


def other_mouth(pixels):
    """What the fakes of paired_cache make of a mouth."""
    return pixels // 2 + 90


@pytest.fixture(scope="module")
def paired_cache(small_cache):
    """The small cache with fakes that are their originals with another mouth: the same moment, as in DFDC."""
    table, images = small_cache.table, small_cache.images.copy()
    reals = {(r.dataset, r.split, r.group, r.time_s): i for i, r in table[table.label == 1].iterrows()}
    for i, r in table[table.label == 0].iterrows():
        images[i] = images[reals[r.dataset, r.split, r.group, r.time_s]]
        images[i, 110:160, 50:140] = other_mouth(images[i, 110:160, 50:140])
    return data.Cache(table, images)


def test_mixed_fakes_lie_between_a_fake_and_its_own_original(paired_cache):
    plain = {image.tobytes() for image in paired_cache.images}
    settings = Settings(blends=0.0, mixing=1.0)
    between = pasted = 0
    for step in range(4):
        faces, labels = Batches(paired_cache, settings)(step)
        assert ((labels >= 0) & (labels <= 1)).all()
        for face, label in zip(faces, labels):
            # Outside the mouth a fake is its original, so whatever is mixed from the two is too; a wrong partner would show there.
            if 0 < label < 1:
                original = min(paired_cache.images[paired_cache.rows(label=1, split="train")], key=lambda image: np.abs(image[:90].astype(int) - face[:90]).sum())
                np.testing.assert_allclose(face[:90].astype(int), original[:90], atol=1)
                mouth = original[110:160, 50:140]
                expected = mouth * label + other_mouth(mouth) * (1 - label)
                np.testing.assert_allclose(face[110:160, 50:140], expected, atol=1.5)
                between += 1
            elif label == 0:
                pasted += face.tobytes() not in plain
            else:
                assert face.tobytes() in plain
    assert between > 20 and pasted > 20


def test_fakes_of_another_moment_are_not_mixed(small_cache):
    images = small_cache.images.copy()
    fakes = small_cache.rows(label=0)
    images[fakes] = 255 - images[fakes]
    mixed, plain = (Batches(data.Cache(small_cache.table, images), Settings(blends=0.0, mixing=m))(0) for m in (1.0, 0.0))
    known = {image.tobytes() for image in images}
    assert set(mixed[1]) == set(plain[1]) == {0.0, 1.0} and all(face.tobytes() in known for face in mixed[0])


def test_a_fake_is_mixed_only_with_an_original_of_its_compression(paired_cache):
    """`Deepfakes/c23` and its original as c40: mixed, the compression would tell the label."""
    table = paired_cache.table.copy()
    fakes = (table.label == 0) & table.dataset.eq("ffpp")
    table.loc[fakes, "manipulation"] = "Deepfakes/c23 crf 31"
    known = {paired_cache.images[i].tobytes() for i in table.index[table.dataset.eq("ffpp")]}
    settings = Settings(blends=0.0, mixing=1.0, without=("dfdc", "ffpp_faces"))
    faces, _ = Batches(data.Cache(table, paired_cache.images), settings)(0)
    assert all(face.tobytes() in known for face in faces)
    faces, _ = Batches(paired_cache, settings)(0)
    assert not all(face.tobytes() in known for face in faces)


def test_located_batches_say_where_fakes_were_altered(paired_cache):
    reals = {paired_cache.images[i].tobytes() for i in paired_cache.rows(label=1, split="train")}
    batches = Batches(paired_cache, Settings(mixing=0.25))
    faces, labels, maps, known = batches.located(2)
    for one, other in zip(batches(2), (faces, labels)):
        np.testing.assert_array_equal(one, other)                                   # the same batch, with maps or without
    assert maps.shape == faces.shape[:3] and maps.dtype == np.uint8 and known.shape == labels.shape
    real = labels == 1
    assert all(face.tobytes() in reals for face in faces[real]) and known[real].all() and not maps[real].any()
    assert known.mean() > 0.8 and (maps[~real & (known == 1)].max((1, 2)) > 0).all()
    # Of the fakes that are neither blended nor mixed only the mouth is other than in the original.
    given = {paired_cache.images[i].tobytes() for i in paired_cache.rows(label=0, split="train")}
    mouths = [m for face, m, k in zip(faces, maps, known) if k and face.tobytes() in given]
    assert len(mouths) > 3
    for m in mouths:
        assert m[115:155, 60:130].mean() > 100 and m[:80].max() == 0 and m[190:].max() == 0


def test_maps_of_fakes_without_their_original_are_not_known(small_cache):
    """The fakes of the small cache are other faces than its reals, so nothing can be said of where they were altered."""
    images = small_cache.images.copy()
    images[small_cache.rows(label=0)] = 255 - images[small_cache.rows(label=0)]
    fakes = {images[i].tobytes() for i in small_cache.rows(label=0)}
    faces, labels, maps, known = Batches(data.Cache(small_cache.table, images), Settings()).located(0)
    given = np.array([face.tobytes() in fakes for face in faces])
    assert given.sum() == sum(share[1] for share in SHARES.values())
    assert not known[given].any() and known[~given].all() and not maps[given].any()


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def picture(rng, side=400):
    """Soft patches of colour with some detail, uint8 RGB."""
    patches, detail = (cv2.resize(rng.uniform(*values, (side // size, side // size, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
                       for values, size in (((80, 170), 20), ((-20, 20), 5)))
    return np.clip(patches + detail, 0, 255).astype(np.uint8)


def cut(frame, box, side=224):
    x0, y0, x1, y1 = box
    return cv2.resize(frame[y0:y1, x0:x1], (side, side), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("wanted", [(100, 120, 300, 320), (110, 115, 320, 310), (90, 130, 280, 345)], ids=["same", "shifted, flatter", "shifted, taller"])
def test_a_face_seen_in_another_box(rng, wanted):
    frame, box = picture(rng), (100, 120, 300, 320)
    made, direct = moved(cut(frame, box), box, wanted), cut(frame, wanted)
    # What both boxes show is the same; what only the wanted one shows is not known.
    x0, y0, x1, y1 = (round(224 * v) for v in ((max(box[0], wanted[0]) - wanted[0]) / (wanted[2] - wanted[0]), (max(box[1], wanted[1]) - wanted[1]) / (wanted[3] - wanted[1]),
                                               (min(box[2], wanted[2]) - wanted[0]) / (wanted[2] - wanted[0]), (min(box[3], wanted[3]) - wanted[1]) / (wanted[3] - wanted[1])))
    assert np.abs(made.astype(int) - direct)[y0 + 2:y1 - 2, x0 + 2:x1 - 2].mean() < 1.5


def test_altered_sees_the_changed_place_through_a_small_shift_and_compression(rng):
    frame = picture(rng)
    original, fake = frame[80:304, 80:304].copy(), frame[82:306, 76:300].copy()
    fake[60:120, 70:150] = 255 - fake[60:120, 70:150]
    where = altered(recode(fake, 40), recode(original, 40))
    assert where.shape == (224, 224) and 0 <= where.min() and where.max() <= 1
    assert where[70:110, 80:140].mean() > 0.8 and where[150:210, 20:210].mean() < 0.05 and where[20:210, 180:210].mean() < 0.05


@pytest.mark.parametrize("fake", [lambda o: o.copy(), lambda o: recode(o, 30), lambda o: o + 12], ids=["same", "compressed again", "brighter all over"])
def test_altered_says_nothing_where_no_place_is_altered(rng, fake):
    original = picture(rng)[:224, :224]
    assert altered(fake(original), original) is None


def test_the_original_is_the_altered_video_and_the_same_frame(paired_cache):
    """Two videos of one group: only the one that was altered is the fake's original, in its own box, at its own time."""
    table, images = paired_cache.table.copy(), paired_cache.images.copy()
    ffpp = table[(table.dataset == "ffpp") & (table.split == "train")]
    groups = ffpp.group.unique()
    # Join two videos to one group, and cut the first fake a little to the side of where its original is cut.
    table.loc[ffpp.index, "group"] = groups[0]
    fake = ffpp.index[ffpp.label == 0][0]
    original = next(i for i in ffpp.index[ffpp.label == 1] if table.video[i].endswith("-0") and table.time_s[i] == table.time_s[fake])
    images[fake] = moved(images[fake], (0.2, 0.1, 0.6, 0.7), (0.22, 0.12, 0.62, 0.72))
    table.loc[fake, list(data.BOX)] = (0.22, 0.12, 0.62, 0.72)
    assert table.video[fake].endswith("-0")
    batches = Batches(data.Cache(table, images), Settings())
    assert batches._original("ffpp", fake, groups[0]) == original
    table.loc[fake, "time_s"] += 0.04                                               # the next frame
    assert Batches(data.Cache(table, images), Settings())._original("ffpp", fake, groups[0]) is None


def test_a_faces_box_says_what_of_its_frame_it_is(project):
    from deepfake_detection.faces.crops import network_input
    from deepfake_detection.faces.detectors.yunet import MODEL

    clip = sorted((project / "train_sample_videos").glob("*.mp4"))[0]
    data._start_worker(str(MODEL))
    job = {"dataset": "ffpp", "manipulation": "c23", "video": clip.name, "group": "g", "split": "train", "label": 1, "frames": 3}
    made = data._cut_clip(job, clip)
    assert len(made) == 3
    capture = cv2.VideoCapture(str(clip))
    frame = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    row, face = made[0]
    x0, y0, x1, y1 = (np.array([row[c] for c in data.BOX]) * np.tile(frame.shape[1::-1], 2)).round().astype(int)
    np.testing.assert_array_equal(face, network_input(frame[y0:y1, x0:x1], data.CACHE_SIZE))
    # Seen in its own frame the left eye is where the points say.
    assert 0.1 < row["left_eye_x"] < 0.5 < row["right_eye_x"] < 0.9 and row["left_eye_y"] < row["mouth_left_y"] < 1


def test_rare_kinds_are_drawn_more_often_than_their_share():
    chances = _chances(["Deepfakes"] * 16 + ["NeuralTextures"] * 4)
    assert chances.sum() == pytest.approx(1)
    assert chances[:16].sum() == pytest.approx(2 * chances[16:].sum())          # four times the videos, twice as often
    np.testing.assert_allclose(_chances(["dfdc"] * 5), 0.2)


def test_codec_changes_its_part_of_both_classes(small_cache):
    known = {image.tobytes() for image in small_cache.images}
    settings = Settings(blends=0.0, codec=0.5)
    changed = {0.0: [], 1.0: []}
    for step in range(4):
        for face, label in zip(*Batches(small_cache, settings)(step)):
            changed[float(label)].append(face.tobytes() not in known)
    for label, which in changed.items():
        assert 0.35 < np.mean(which) < 0.65, label


def test_recoding_keeps_the_picture_and_its_channels():
    face = np.zeros((64, 64, 3), np.uint8)
    face[..., 0] = np.linspace(60, 220, 64)[:, None]                            # red grows downwards, blue stays dark
    good, bad = (recode(face, quality).astype(int) for quality in (50, 1))
    assert np.abs(good - face).mean() < 4 and good.shape == face.shape and good.dtype == int
    assert np.abs(bad - face).mean() < 12
    assert (good[..., 0].mean() - good[..., 2].mean()) > 100


def test_a_compressed_copy_is_smaller_and_the_source_stays(tmp_path):
    source = clips.write_video(tmp_path / "clip.mp4", clips.pattern(12, 320, 240), fps=25, crf="10")
    before = source.read_bytes()
    for crf, part in data.COPIES.values():
        copy = tmp_path / f"{crf}.mp4"
        data.compress(source, copy, crf, part)
        assert copy.stat().st_size < len(before) / 2
        capture = cv2.VideoCapture(str(copy))
        assert capture.get(cv2.CAP_PROP_FPS) == 25
        frames = [capture.read() for _ in range(13)]
        assert [read for read, _ in frames] == [True] * 12 + [False]
        assert frames[0][1].shape == (240 * part, 320 * part, 3)
        for (_, frame), wanted in zip(frames, clips.pattern(12, 320, 240)):
            assert np.abs(cv2.resize(frame, (320, 240)).astype(int) - wanted).mean() < 20          # the same pictures in the same order
    assert source.read_bytes() == before


def test_schedule():
    settings = Settings(learning_rate=1.0, warmup=0.1, sizes=((0.0, 128), (0.7, 160)))
    rates = [_learning_rate(settings, p) for p in np.linspace(0, 1, 101)]
    assert rates[0] < 0.02 and max(rates) == pytest.approx(1, abs=0.02) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.argmax(rates) in (9, 10, 11)
    assert [_size_at(settings, p) for p in (0, 0.69, 0.7, 1)] == [128, 128, 160, 160]
