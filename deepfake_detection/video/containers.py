"""Is this file a video container, and which one? Decided by its bytes, never by its name, before FFmpeg sees it.

FFmpeg opens more than videos: a text file can be a playlist (HLS, DASH, ffconcat, SDP) that makes it read other files
and connect to other machines, and a file's *name* can be a protocol (`concat:a|b`, `subfile:`) or a pattern of pictures
(`x%03d.png`). So a file is judged here first; then it is opened by `file:` and its absolute path, with the one demuxer
that its bytes call for, or where they begin in an unusual way with whichever of `DEMUXERS` FFmpeg recognises; with no
protocol but `file` and no decoder but `DECODERS`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import UserError

#: Demuxers (FFmpeg's names) that a file may be opened with. None of them reads anything but the one file.
DEMUXERS = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "gif", "mxf", "dv", "h264", "hevc",
    "yuv4mpegpipe", "ivf", "m4v", "obu",
)  # fmt: skip
#: In the place of a demuxer: the first bytes are unusual, FFmpeg looks further and takes one of `DEMUXERS` or none.
ANY = ""

#: Decoders (FFmpeg's names) of what cameras, phones, browsers, editors and archives write. No other one is ever
#: started: FFmpeg has hundreds, and the least used have the most holes.
DECODERS = (
    "h264", "hevc", "libdav1d", "av1", "vp9", "libvpx-vp9", "vp8", "libvpx", "vp6", "vp6f", "vp6a", "flv", "h263",
    "h263p", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1",
    "mjpeg", "theora", "prores", "dnxhd", "cfhd", "dvvideo", "jpeg2000", "rawvideo", "v210", "ffv1", "huffyuv",
    "ffvhuff", "utvideo", "qtrle", "png", "gif", "svq1", "svq3", "cinepak", "rpza", "msvideo1", "indeo3", "indeo5",
)  # fmt: skip

#: What a file begins with -> its demuxer.
_MAGIC = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"FLV\x01", "flv"),
    (b"OggS", "ogg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
    (b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (b"DKIF", "ivf"),
    (b"\x1f\x07\x00", "dv"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpegvideo"),
)
#: Type of the first atom of an MP4 or QuickTime file, at byte 4; some are of fragments, of old QuickTime and of
#: cameras.
_ATOMS = frozenset(
    {
        b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"pnot", b"styp", b"moof", b"sidx", b"ssix",
        b"emsg", b"prft", b"mfra", b"meta", b"udta", b"junk", b"pict", b"prfl",
    }
)  # fmt: skip
#: ftyp brands of single pictures, which use the same boxes.
_STILL_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif"})

_PICTURE_HINT = "give a video; a picture has no frames to compare"
_PLAYLIST_HINT = "give the video itself: lists that name other files or addresses are not followed"
_ARCHIVE_HINT = "unpack it first"
_SOUND_HINT = "give a file with pictures"

#: What a file begins with (after blanks, any case) -> what it is, and what to do.
_REFUSED = (
    (b"#extm3u", "a playlist (HLS)", _PLAYLIST_HINT),
    (b"ffconcat", "a list of files (ffconcat)", _PLAYLIST_HINT),
    (b"v=0", "a session description (SDP)", _PLAYLIST_HINT),
    (b"[playlist]", "a playlist", _PLAYLIST_HINT),
    (b"<!doctype", "a web page", "the download saved a page instead of the video: download again"),
    (b"<html", "a web page", "the download saved a page instead of the video: download again"),
    (b"<mpd", "a playlist (DASH)", _PLAYLIST_HINT),
    (b"<?xml", "an XML text", _PLAYLIST_HINT),
    (b"\x89png", "a picture (PNG)", _PICTURE_HINT),
    (b"\xff\xd8\xff", "a picture (JPEG)", _PICTURE_HINT),
    (b"bm", "a picture (BMP)", _PICTURE_HINT),
    (b"ii*\0", "a picture (TIFF)", _PICTURE_HINT),
    (b"mm\0*", "a picture (TIFF)", _PICTURE_HINT),
    (b"id3", "sound only (MP3)", _SOUND_HINT),
    (b"\xff\xfb", "sound only (MP3)", _SOUND_HINT),
    (b"\xff\xf1", "sound only (AAC)", _SOUND_HINT),
    (b"flac", "sound only (FLAC)", _SOUND_HINT),
    (b"pk\x03\x04", "an archive (ZIP)", _ARCHIVE_HINT),
    (b"\x1f\x8b", "an archive (gzip)", _ARCHIVE_HINT),
    (b"7z\xbc\xaf", "an archive (7z)", _ARCHIVE_HINT),
    (b"rar!", "an archive (RAR)", _ARCHIVE_HINT),
    (b"\xfd7zxz", "an archive (xz)", _ARCHIVE_HINT),
    (b"%pdf", "a PDF", "give a video"),
    (b"\x7felf", "a program", "give a video"),
    (b"mz\x90", "a program", "give a video"),
)
#: RIFF is a family of formats; its kind stands at byte 8.
_RIFF = {b"WAVE": ("sound only (WAV)", _SOUND_HINT), b"WEBP": ("a picture (WebP)", _PICTURE_HINT)}

#: Frames larger than this are refused: 16K (15360 x 8640) passes, and one frame of it takes 400 MB as BGR.
MOST_PIXELS = 1 << 27

_HEAD = 4096
_TS_PACKETS = (188, 192, 204)


def check(path: str | Path) -> str:
    """Refuses what is not one regular, readable file that holds a video. Returns its demuxer, of `DEMUXERS`.

    A file that begins in an unusual way is looked at by FFmpeg, in a process of its own that decodes nothing.

    Raises:
        UserError: what it is instead, in one line.
    """
    demuxer = look_at(path)
    if demuxer == ANY:
        from .sandbox import LimitExceeded, run_limited

        try:
            demuxer = run_limited(_recognised, os.path.abspath(path), cpu_s=20, memory_bytes=2 << 30, wall_s=60)
        except LimitExceeded:
            demuxer = None
        if demuxer is None:
            raise not_a_container(path)
    return demuxer


def _recognised(path: str) -> str | None:
    import av

    try:
        with av.open(
            url(path), options={**options(ANY), "codec_whitelist": "none"}, metadata_errors="replace"
        ) as container:
            return next((d for d in DEMUXERS if d in container.format.name.split(",")), None)
    except (av.FFmpegError, OSError, ValueError):
        return None


def look_at(path: str | Path) -> str:
    """As `check`, by the first bytes only: the answer may also be ANY.

    Raises:
        UserError: what it is instead, in one line.
    """
    path = Path(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise UserError("this is a folder, not a video", file=path, hint="name a video file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever, a device would never end
            raise UserError("this is a pipe or device, not a file", file=path, hint="name a video file")
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except UserError:
        raise
    except ValueError:  # a NUL in the name
        raise UserError("not the name of a file", file=path, hint="check the path") from None
    except OSError as e:
        hint = "check the path and its permissions"
        raise UserError(f"cannot read the video ({e.strerror})", file=path, hint=hint) from None
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:  # FFmpeg takes names as UTF-8 only
        raise UserError("the file's name is not UTF-8 text", file=path, hint="rename it") from None
    if not head:
        raise UserError("the video file is empty", file=path, hint="download or copy it again")
    demuxer = demuxer_of(head)
    if demuxer is None:
        what, hint = _describe(head)
        raise UserError(f"not a video: {what}", file=path, hint=hint)
    return demuxer


def demuxer_of(head: bytes) -> str | None:
    """The demuxer for a file that begins with `head` (the first 4 KiB).

    Returns:
        one of `DEMUXERS`; ANY for bytes of no known kind, which a recording that begins in the middle may well have;
        None for what is certainly no video: text, lists, pictures, sound, archives.
    """
    if head[4:8] in _ATOMS:
        return None if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS else "mov"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    for magic, demuxer in _MAGIC:
        if head.startswith(magic):
            return demuxer
    if _is_transport_stream(head):
        return "mpegts"
    return ANY if _describe(head) in (_UNKNOWN, _ZEROS) and len(head) >= _LEAST else None


def _is_transport_stream(head: bytes) -> bool:
    """0x47 at the start of every packet of 188 bytes (192 with time codes, 204 with parity); it may be cut inside its
    first one.
    """
    for size in _TS_PACKETS:
        for start in range(min(size, len(head))):
            if head[start] == 0x47:  # else no slice is needed: folders have many files that are none
                syncs = head[start::size]
                if len(syncs) >= 4 and syncs.count(0x47) == len(syncs):
                    return True
    return False


#: Fewer bytes than this hold no video that has to be recognised.
_LEAST = 512
_ZEROS = ("it holds only zeros", "the download or copy was not finished: get it again")
_UNKNOWN = ("its first bytes are of no known container", "is it complete, and a video? play it, or download it again")


def _describe(head: bytes) -> tuple[str, str]:
    """(what it is, what to do) of a file that is no video."""
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return "a picture (HEIF or AVIF)", _PICTURE_HINT
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    if b"<mpd" in text:
        return "a playlist (DASH)", _PLAYLIST_HINT
    for magic, what, hint in _REFUSED:
        if text.startswith(magic):
            return what, hint
    if not head.strip(b"\0"):
        return _ZEROS
    if all(c >= 32 or c in b"\t\r\n" for c in head[:512]):
        return "a text", "give a video"
    return _UNKNOWN


def url(path: str | Path) -> str:
    """The path as FFmpeg takes it for nothing but a path: never a protocol, whatever stands in the name."""
    return "file:" + os.path.abspath(path)


def options(demuxer: str) -> dict[str, str]:
    """Options of FFmpeg's opening call that hold it to one file: PyAV's `options`."""
    return {"protocol_whitelist": "file", "format_whitelist": demuxer or ",".join(DEMUXERS), **codec_options()}


def codec_options() -> dict[str, str]:
    """Options of FFmpeg's decoders that hold them to known kinds and a sane size, whatever the container said: of a
    codec context too.
    """
    # A decoder counts whole blocks of 64 pixels: room for those at the edge; `check_size` has the exact bound.
    return {"max_pixels": str(MOST_PIXELS + 128 * 65536), "codec_whitelist": ",".join(DECODERS)}


def not_a_container(path: str | Path) -> UserError:
    """What to say of a file that FFmpeg did not recognise where `look_at` answered ANY."""
    with open(path, "rb") as file:
        what, hint = _describe(file.read(_HEAD))
    return UserError(f"not a video: {what}", file=path, hint=hint)


def check_size(width: int, height: int, path: str | Path) -> None:
    """Refuses a video whose frames would not fit into memory.

    Raises:
        UserError: more than MOST_PIXELS.
    """
    if width * height > MOST_PIXELS:
        raise UserError(
            f"its frames have {width} x {height} pixels, more than {MOST_PIXELS:,}",
            file=path,
            hint="is it damaged? else make it smaller with another program",
        )
