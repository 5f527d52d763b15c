"""Fetching a video by URL with yt-dlp, an optional extra (`pip install yt-dlp`), in a process of `fetch_apart`."""

from __future__ import annotations

import logging
import urllib.parse
from pathlib import Path

from ..errors import UserError


def must_be_address(url: str) -> None:
    """Raises UserError unless it is the http or https address of a host."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        raise UserError("not an http or https address", file=url, hint="give --url https://...")


def download(url: str, folder: Path, max_bytes: int, **more) -> tuple[Path, str]:
    """Downloads one video into an empty folder. Returns its path and its title.

    Args:
        more: further options of yt-dlp.

    Raises:
        UserError: yt-dlp is not installed, or nothing could be downloaded.
    """
    try:
        import yt_dlp
    except ImportError:
        raise UserError("--url needs yt-dlp, which is not installed", hint="pip install yt-dlp") from None
    options = {
        "outtmpl": str(folder / "video.%(ext)s"),
        "noplaylist": True,
        "playlist_items": "1",
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "max_filesize": max_bytes,
        "format": "best[ext=mp4]/best",
        "retries": 2,
        "socket_timeout": 20,
        "cachedir": False,
        "enable_file_urls": False,
        # Its messages come back as exceptions; a logger above all levels keeps it from saying everything twice.
        "logger": logging.Logger("yt-dlp", logging.CRITICAL + 1),
        **more,
    }
    try:
        with yt_dlp.YoutubeDL(options) as loader:
            about = loader.extract_info(url, download=True)
    except yt_dlp.utils.YoutubeDLError as e:
        reason = str(e).removeprefix("ERROR: ").splitlines()[0].split("; please report")[0]
        raise UserError(f"cannot download ({reason})", file=url, hint="does it open in a browser?") from None
    files = [f for f in folder.iterdir() if f.name.startswith("video.") and f.suffix not in (".part", ".ytdl")]
    if not files:
        raise UserError(
            f"nothing was downloaded: no video there, or larger than {max_bytes >> 20} MiB",
            file=url,
            hint="give the address of one video",
        )
    return files[0], str((about or {}).get("title") or "")
