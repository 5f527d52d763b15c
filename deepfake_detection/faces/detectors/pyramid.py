"""The image pyramid of MTCNN: which scales PNet, whose field of view is 12 px, looks at.

The `mtcnn` package counts its scales as if the smallest face were 12 px. With a smallest face above about 25 px the
last scales are then smaller than the field of view, TensorFlow fails, and the package takes that for "no face". Here
such scales are left out. For the package's own default (20 px) the scales are the package's.
"""

from __future__ import annotations

import numpy as np

CELL_PX = 12
SCALE_FACTOR = 0.709


def scales(width: int, height: int, min_face_px: float) -> list[float]:
    """Scales to apply to a frame, descending; empty when the frame is smaller than the smallest face.

    Args:
        width, height: of the frame, px.
        min_face_px: the smallest face looked for, px of the frame.
    """
    shorter = min(width, height)
    if shorter < CELL_PX:
        return []
    # The package's count: round(-(log(shorter / 12) / log(factor) + 1)).
    count = max(0, round(-((np.log(shorter / CELL_PX) / np.log(SCALE_FACTOR)) + 1)))
    first = CELL_PX / min_face_px
    return [s for s in (float(first * SCALE_FACTOR**i) for i in range(count)) if int(shorter * s) >= CELL_PX]
