"""Which clips the sample has. A fake stands under the real clip it was made from; a `Real` and its fakes share camera,
size and rate.

Identity groups are strict: a donor face comes from the same group as its target, so no person is on two sides of a
split.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .camera import View

NTSC = 30000 / 1001  # 29.97
FILM = 24000 / 1001  # 23.976


@dataclass(frozen=True)
class FakeClip:
    """name: what is added to the title of the original. person: whose face is changed. donor: (source, person, start in
    seconds)."""

    name: str
    method: str
    person: str
    seconds: float
    donor: tuple[str, str, float] | None = None
    start: float = 0.0  # seconds into the original
    network: int = 96
    feather: float = 5.0
    crf: int | None = None


@dataclass(frozen=True)
class RealClip:
    """identity: the group. source: in `sources.load`. start: seconds into the source. size: (width, height). crf: of
    the upload."""

    name: str
    identity: str
    source: str
    path: list[View]
    size: tuple[int, int]
    fps: float
    seconds: float
    start: float = 0.0
    crf: int = 28
    audio: bool = False
    camera: dict = field(default_factory=dict)
    fakes: tuple[FakeClip, ...] = ()


V, F = View, FakeClip

CLIPS: list[RealClip] = [
    # The woman of the Pexels clip: real motion, hair and at times a hand before the face.
    RealClip(
        "woman_worried",
        "woman",
        "woman",
        [V(320, 180, 630), V(330, 180, 600)],
        (640, 360),
        FILM,
        8.6,
        crf=31,
        audio=True,
        fakes=(F("self-blend", "self-blend", "woman", 5.4),),
    ),
    RealClip(
        "woman_laughing",
        "woman",
        "woman",
        [V(330, 180, 620), V(390, 180, 480), V(400, 180, 460)],
        (1280, 720),
        25.0,
        10.4,
        start=9.0,
        crf=34,
        camera=dict(noise=1.0),
        fakes=(
            F("other-moment", "swap", "woman", 6.2, donor=("woman", "woman", 12.5)),
            F("resynth", "resynth", "woman", 6.0, start=4.0, network=64),
        ),
    ),
    RealClip(
        "woman_phone-vertical",
        "woman",
        "woman",
        [V(430, 180, 202), V(445, 180, 200)],
        (360, 640),
        NTSC,
        7.4,
        start=8.6,
        crf=31,
        camera=dict(warmth=5, shake=0.5),
        fakes=(F("mirror", "mirror", "woman", 5.6),),
    ),
    # The man of the selfie clip (2.4 s, run back and forth) and of a photo of him.
    RealClip(
        "man_selfie",
        "man",
        "man_clip",
        [V(300, 190, 430), V(305, 185, 400)],
        (640, 480),
        30.0,
        9.2,
        crf=31,
        audio=True,
        fakes=(
            F("swap-photo", "swap", "man", 6.0, donor=("man_photo", "man", 0.0)),
            F("self-blend", "self-blend", "man", 5.6),
        ),
    ),
    RealClip(
        "man_at-the-door",
        "man",
        "man_clip",
        [V(320, 180, 560), V(310, 180, 500, 1.5)],
        (1920, 1080),
        NTSC,
        6.2,
        start=0.6,
        crf=36,
        camera=dict(noise=1.0),
        fakes=(F("resynth", "resynth", "man", 5.2, network=72),),
    ),
    RealClip(
        "man_mountain-photo",
        "man",
        "man_photo",
        [V(270, 290, 520), V(275, 270, 400, -2), V(280, 280, 440, 1)],
        (480, 480),
        24.0,
        9.6,
        fakes=(
            F("swap-clip", "swap", "man", 6.0, donor=("man_clip", "man", 0.3)),
            F("lip-sync", "lip-sync", "man", 6.4, network=112),
        ),
    ),
    # The astronaut.
    RealClip(
        "astronaut_slow-pan",
        "astronaut",
        "astronaut",
        [V(310, 165, 420), V(215, 125, 300), V(225, 135, 280, 2)],
        (1280, 720),
        NTSC,
        10.2,
        crf=34,
        audio=True,
        camera=dict(noise=1.0),
        fakes=(
            F("self-blend", "self-blend", "astronaut", 7.0),
            F("lip-sync", "lip-sync", "astronaut", 6.4, start=3.4, network=112),
        ),
    ),
    RealClip(
        "astronaut_close-up",
        "astronaut",
        "astronaut",
        [V(222, 125, 190), V(226, 118, 220, -3), V(220, 120, 180, 2)],
        (256, 256),
        25.0,
        9.8,
        fakes=(F("mirror", "mirror", "astronaut", 5.8), F("resynth", "resynth", "astronaut", 5.4, network=64)),
    ),
    # The navy officer, glasses and a hat.
    RealClip(
        "officer_full-hd",
        "officer",
        "officer",
        [V(256, 250, 500), V(265, 220, 420), V(262, 215, 400, 1.5)],
        (1920, 1080),
        25.0,
        8.2,
        crf=36,
        camera=dict(noise=1.0),
        fakes=(
            F("lip-sync", "lip-sync", "officer", 5.6, network=112),
            F("self-blend", "self-blend", "officer", 5.2, start=3.0),
        ),
    ),
    RealClip(
        "officer_tilted-phone",
        "officer",
        "officer",
        [V(250, 300, 430, 4), V(262, 230, 330, -3)],
        (480, 360),
        30.0,
        9.0,
        camera=dict(warmth=-4, light=0.08),
        fakes=(F("mirror", "mirror", "officer", 6.0), F("reshape", "reshape", "officer", 5.4)),
    ),
    # Five friends in one photo: three groups of one, and one of two.
    RealClip(
        "sunglasses_coast",
        "sunglasses",
        "friends",
        [V(210, 110, 370), V(262, 125, 240), V(258, 120, 230, 2)],
        (854, 480),
        24.0,
        9.8,
        crf=31,
        fakes=(
            F("lip-sync", "lip-sync", "sunglasses", 6.2, network=112),
            F("self-blend", "self-blend", "sunglasses", 5.6),
        ),
    ),
    RealClip(
        "sunglasses_old-phone",
        "sunglasses",
        "friends",
        [V(258, 118, 165), V(264, 122, 150, -3), V(260, 118, 170, 2)],
        (240, 320),
        25.0,
        9.2,
        audio=True,
        camera=dict(noise=3.0),
        fakes=(F("mirror", "mirror", "sunglasses", 5.6), F("resynth", "resynth", "sunglasses", 5.2, network=64)),
    ),
    RealClip(
        "longhair_smile",
        "longhair",
        "friends",
        [V(318, 290, 225), V(350, 300, 170), V(355, 297, 160, -2)],
        (640, 480),
        25.0,
        9.6,
        fakes=(F("self-blend", "self-blend", "longhair", 6.0), F("lip-sync", "lip-sync", "longhair", 5.6, network=112)),
    ),
    RealClip(
        "longhair_zoom-call",
        "longhair",
        "friends",
        [V(350, 300, 165), V(356, 296, 155)],
        (320, 240),
        30.0,
        8.8,
        camera=dict(flip=True, light=0.07),
        fakes=(F("mirror", "mirror", "longhair", 5.4),),
    ),
    RealClip(
        "curly_vertical",
        "curly",
        "friends",
        [V(478, 256, 128), V(480, 262, 122, 2)],
        (288, 384),
        NTSC,
        9.4,
        fakes=(F("mirror", "mirror", "curly", 5.8), F("lip-sync", "lip-sync", "curly", 5.4, network=112)),
    ),
    RealClip(
        "curly_tall",
        "curly",
        "friends",
        [V(480, 262, 118, -2), V(476, 256, 130, 1), V(478, 258, 126)],
        (540, 720),
        24.0,
        9.0,
        crf=29,
        camera=dict(flip=True, warmth=-5),
        fakes=(F("self-blend", "self-blend", "curly", 5.6), F("reshape", "reshape", "curly", 5.2)),
    ),
    RealClip(
        "two-friends_walk-past",
        "two-friends",
        "friends",
        [V(665, 355, 350), V(690, 350, 330), V(660, 352, 300, -1)],
        (1280, 720),
        NTSC,
        10.0,
        crf=34,
        audio=True,
        camera=dict(noise=1.0),
        fakes=(
            F("left-swapped", "swap", "brunette", 6.2, donor=("friends", "redhead", 0.0)),
            F("right-swapped", "swap", "redhead", 6.0, start=2.0, donor=("friends", "brunette", 0.0)),
        ),
    ),
    RealClip(
        "two-friends_redhead",
        "two-friends",
        "friends",
        [V(780, 335, 270), V(745, 345, 200), V(742, 348, 190, 2)],
        (640, 360),
        30.0,
        9.0,
        fakes=(
            F("swap-brunette", "swap", "redhead", 6.0, donor=("friends", "brunette", 0.0), network=80),
            F("lip-sync", "lip-sync", "redhead", 5.4, network=112),
        ),
    ),
    RealClip(
        "two-friends_brunette",
        "two-friends",
        "friends",
        [V(592, 370, 150), V(588, 366, 140, -2)],
        (480, 640),
        25.0,
        8.4,
        camera=dict(flip=True),
        fakes=(F("swap-redhead", "swap", "brunette", 5.6, donor=("friends", "redhead", 0.0), network=80, feather=7.0),),
    ),
    # Nobody.
    RealClip(
        "no-face_coffee",
        "no-face",
        "coffee",
        [V(300, 220, 420), V(330, 200, 330, 3), V(280, 190, 400)],
        (640, 360),
        25.0,
        7.0,
        crf=30,
        audio=True,
    ),
]
