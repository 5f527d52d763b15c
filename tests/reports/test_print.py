"""The report on paper: three pages at most however many people, no card parted, no heading away from what it heads.

Chromium prints it; where things come to stand is read from the destinations of links, which the PDF holds as plain
text.
"""

import os
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from deepfake_detection.detector.explain import data_uri
from deepfake_detection.reports import html

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs chromium (Debian: chromium)")

REASON = "the faces are too small (28 px), seen from the side and too dark; another person looks altered at 0:12"
RECORD = [
    "Of 100 untouched videos of the nearest kind 5 are called FAKE, and of 100 altered ones 10 are called REAL.",
    "27 of 100 are UNSURE: between 32 and 70 %. These numbers are of 412 videos of people whom the detector never saw.",
]
WARNINGS = [
    f"The {what} of this file is below what the detector was validated on: errors are likelier than stated."
    for what in ("bit rate", "resolution", "length", "frame rate")
]


def picture(width, height, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return data_uri(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def data_of(people, *, frame=(960, 540), name="clip.mp4", long=False):
    """What `detector.explain.report_data` gives, of so many people: three with evidence, as it chooses them."""
    ids = [f"p{i + 1}" for i in range(people)]
    persons = [
        {
            **{"id": i, "p_real": 0.4, "verdict": "UNSURE", "first_s": 0.0, "last_s": 58.0, "frames": 32},
            **{"interval": [0.5, 0.7], "frame_range": [0.2, 0.9], "faces_that_vote": 30, "well_seen": True},
            "reason": REASON if long else "",
        }
        for i in ids
    ]
    faces = [
        {"person": i, "time_s": 1.8 * k, "index": 54 * k, "frame": k, "p_real": 0.2 + 0.6 * (k % 7) / 6, "size_px": 60}
        for i in ids
        for k in range(32)
    ]
    check = {"word": "confirmed", "sign": "FAKE", "p_fake": 0.92, "marked": 0.41, "elsewhere": 0.8, "confirmed": True}
    evidence = [
        {
            **{
                "kind": "suspicious" if k % 2 else "normal",
                "person": i,
                "time_s": 1.8 * k,
                "index": 54 * k,
                "frame": k,
            },
            **{"p_fake": 0.9, "method": "occlusion", "face": picture(180, 224, k), "map": picture(180, 224, k + 9)},
            "check": check,
        }
        for place, i in enumerate(ids[:3])
        for k in range(4 if place == 0 else 2)
    ]
    return {
        **{"video": name, "verdict": "UNSURE", "reason": REASON if long else "the frames do not agree", "p_real": 0.4},
        **{"p_fake": 0.6, "interval": [0.5, 0.7], "frame_range": [0.2, 0.9], "frames_decoded": 32, "note": ""},
        **{
            "frames_with_face": 32,
            "people": persons,
            "faces": faces,
            "evidence": evidence,
            "model": "tiny 0 (01234567)",
        },
        "file": {
            **{"width": 1920, "height": 1080, "codec": "h264", "fps": 29.97, "bitrate": 1_400_000, "bytes": 10_250_000},
            **{"duration_s": 58.0, "sha256": "0" * 64, "still": False},
        },
        "warnings": WARNINGS if long else [],
        "made": "2026-11-21T12:00:00Z",
        "thresholds": {"fake_below": 0.3, "real_above": 0.7},
        "settings": {"sampling": "even", "frames": 32, "detector": "yunet", "confidence": 0.8, "aggregate": "mean"},
        "program": "deepfake_detection 2",
        "track_record": RECORD,
        "frame": {"picture": picture(*frame), "time_s": 3.0, "index": 90, "people": [f"Person {i[1:]}" for i in ids]},
    }


def printed(page, folder, size):
    """(number of pages, where: id -> page from 0) of a page on paper."""
    page = page.replace("</style>", f"@page{{size:{size}}}</style>")
    page = re.sub(r"<meta http-equiv[^>]*>", "", page)  # the added style is not the one that it allows
    ids = re.findall(r' id="(\w+)"', page)
    links = "".join(f'<a href="#{i}">.</a>' for i in ids)
    page = page.replace("</body>", f'<nav style="position:absolute;top:0;font-size:1px">{links}</nav></body>')
    (folder / "page.html").write_text(page, encoding="utf-8")
    pdf = folder / "page.pdf"
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-pdf-header-footer")
    own = (f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={pdf}", str(folder / "page.html"))
    command = [CHROMIUM, *flags, *own]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert pdf.is_file(), done.stderr[-800:]
    data = pdf.read_bytes()
    kids = re.findall(rb"(\d+) 0 R", re.search(rb"/Type /Pages.*?/Kids \[(.*?)\]", data, re.S)[1])
    assert len(kids) == len(re.findall(rb"/Type /Page\b(?!s)", data)), "several levels of pages"
    places = re.findall(rb"/(\w+) \[(\d+) 0 R /XYZ", data)
    return len(kids), {name.decode(): kids.index(of) for name, of in places}


def marked(page):
    """The page with ids where cards begin (cN) and end (eN), at headings (hN) and behind them (fN)."""
    numbers = iter(range(10_000))

    def card(match):
        n = next(numbers)
        return f'<{match[1]} id="c{n}"{match[2]}>{match[3]}<a id="e{n}"></a></{match[1]}>'

    def heading(match):
        n = next(numbers)
        return f'<{match[1]} id="h{n}"{match[2]}>{match[3]}</{match[1]}>{match[4]}<{match[5]} id="f{n}"'

    page = re.sub(r'<(section|figure)( class="card[^>]*)>(.*?)</\1>', card, page, flags=re.S)
    return re.sub(r"<(h[23])([^>]*)>(.*?)</\1>(\s*)<(\w+)(?! id=)", heading, page, flags=re.S)


LONG_NAME = "a very long name of a file " * 8 + ".mp4"


@pytest.mark.parametrize("size", ["A4", "letter"])
@pytest.mark.parametrize(
    "data, pages",
    [
        pytest.param(data_of(1), 2, id="one person"),
        pytest.param(data_of(12), 3, id="twelve people"),
        pytest.param(data_of(12, frame=(540, 960), name=LONG_NAME, long=True), 3, id="twelve, upright, long words"),
        pytest.param(data_of(60, long=True), 3, id="sixty people"),
    ],
)
def test_few_pages_with_whole_cards_and_headings_by_their_text(tmp_path, data, pages, size):
    page = html.video_report(data)
    count, where = printed(marked(page), tmp_path, size)
    assert count <= pages
    cards = [n[1:] for n in where if n.startswith("c")]
    headings = [n[1:] for n in where if n.startswith("h")]
    assert len(cards) >= 4 and len(headings) >= 4
    assert [n for n in cards if where[f"c{n}"] != where[f"e{n}"]] == [], "cards on two pages"
    assert [n for n in headings if where[f"h{n}"] != where[f"f{n}"]] == [], "headings away from their text"


def test_a_parted_card_would_be_seen(tmp_path):
    """The check itself: without the rule that keeps cards whole, one is parted."""
    page = html.video_report(data_of(12, long=True)).replace("break-inside:avoid", "")
    page = page.replace("</style>", ".card{margin-top:7cm}</style>")
    _, where = printed(marked(page), tmp_path, "A4")
    assert any(where[f"c{n[1:]}"] != where[f"e{n[1:]}"] for n in where if n.startswith("c"))
