"""Every kind of the zoo through stage 00: the right row and the right line for each, and the good clips as if they were
alone."""

import hashlib
import io
import os
import re
from contextlib import redirect_stderr

import pandas as pd
import pytest

from deepfake_detection.datasets.manifest import read_manifest
from deepfake_detection.errors import UserError
from deepfake_detection.stage_report import ERROR, NO_FRAMES, OK
from deepfake_detection.video import containers, frames, sampling


@pytest.fixture(scope="module")
def stage_00(zoo, tmp_path_factory):
    """(account of one run of stage 00 over the whole zoo, folder of the frames, the bytes of the sources before and
    after)."""
    out = tmp_path_factory.mktemp("frames")
    before = fingerprint(zoo)
    account = frames.convert(
        read_manifest(zoo.folder), zoo.folder, out, sampling=sampling.parse("per-second"), worker_count=2
    )
    account.write(out / "00_videos.csv")
    return account.table(), out, before, fingerprint(zoo)


def fingerprint(zoo) -> dict:
    """(size, time, first bytes) of every regular file."""
    return {
        p.name: (p.lstat().st_size, p.lstat().st_mtime_ns, hashlib.sha256(p.read_bytes()[:4096]).hexdigest())
        for p in zoo.folder.iterdir()
        if p.is_file() and not p.is_symlink() and p.stat().st_size < 1 << 30
    }


def row_of(table: pd.DataFrame, kind) -> pd.Series | None:
    if kind.name == "name_not_utf8":
        rows = table[table["detail"].str.contains("not UTF-8")]
    else:
        rows = table[table["video"] == kind.file]
    assert len(rows) <= 1
    return rows.iloc[0] if len(rows) else None


def test_sixty_kinds(zoo):
    assert len(zoo.paths) >= 60
    assert len(set(zoo.kinds)) == len(zoo.kinds)


def test_stage_00(stage_00, zoo, kind):
    table, out, *_ = stage_00
    zoo.path(kind.name)
    row = row_of(table, kind)
    if not kind.seen:
        assert row is None
        return
    assert row is not None, "every video has a row"
    assert row["detail"].isprintable(), "one line"
    if row["status"] == ERROR:
        assert kind.refused and re.search(kind.refused, row["detail"]), row["detail"]
        assert not (out / row["title"]).exists()
        return
    assert kind.frames is not None, f"{row['status']}, {row['detail']!r}, not refused"
    assert row["status"] == (OK if row["frames"] else NO_FRAMES)
    assert kind.frames[0] <= row["frames"] <= kind.frames[1], row["frames"]
    held = sorted(p.name for p in (out / row["title"]).glob("*.png")) if row["frames"] else []
    assert len(held) == row["frames"]
    if row["status"] == NO_FRAMES:
        assert row["detail"], "says what was wrong"


def test_sources_are_untouched(stage_00):
    _, _, before, after = stage_00
    assert before == after and len(before) > 100


def test_nothing_else_is_written(stage_00, zoo):
    """No rubbish beside the frames, nothing outside the folder, no command run by a name."""
    table, out, *_ = stage_00
    assert not [p for p in out.rglob("*") if ".partial-" in p.name]
    made = {p.name for p in out.iterdir()} - {".frames.lock", "00_videos.csv"}
    assert made == set(table[table["status"] == OK]["title"])
    assert not (zoo.folder / "pwned").exists()


def test_good_clips_are_as_if_alone(stage_00, zoo, tmp_path):
    """The same bytes for the good ones with and without the zoo around them."""
    _, out, *_ = stage_00
    alone = tmp_path / "alone"
    alone.mkdir()
    for n in (1, 2, 3):
        (alone / f"good_{n}.mp4").write_bytes(zoo.path(f"good_{n}").read_bytes())
    frames.convert(read_manifest(alone), alone, tmp_path / "frames", sampling=sampling.parse("per-second"))
    for n in (1, 2, 3):
        pictures = sorted((tmp_path / "frames" / f"good_{n}").glob("*.png"))
        assert len(pictures) == 2
        for picture in pictures:
            assert picture.read_bytes() == (out / f"good_{n}" / picture.name).read_bytes()


def test_every_row_stays_one_row_in_a_spreadsheet(stage_00):
    """Names with commas, quotes and newlines come back as they were; none begins like a formula."""
    table, out, *_ = stage_00
    back = pd.read_csv(out / "00_videos.csv", dtype=str, keep_default_na=False)
    assert len(back) == len(table)
    for column in back.columns:
        assert not back[column].str.startswith(("=", "+", "-", "@", "\t", "\r")).any(), column
    assert "./=cmd|' C calc'!A0.mp4" in set(back["video"])


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="the kind `unreadable` tries it for this user"
)
def test_unreadable_for_another_user(zoo, tmp_path, monkeypatch):
    """Root may read everything, so it is tried as nobody."""
    path = tmp_path / "unreadable.mp4"
    path.write_bytes(zoo.path("good_1").read_bytes())
    path.chmod(0)
    monkeypatch.chdir(tmp_path)  # nobody may not enter the folders above
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"cannot read the video \(Permission denied\)"):
            containers.check("unreadable.mp4")
    finally:
        os.seteuid(0)


def test_second_run_does_nothing_new(stage_00, zoo):
    table, out, *_ = stage_00
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    with redirect_stderr(io.StringIO()):
        again = frames.convert(
            read_manifest(zoo.folder), zoo.folder, out, sampling=sampling.parse("per-second"), worker_count=1
        ).table()
    pd.testing.assert_frame_equal(again, table)
    assert times == {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
