"""How many processors this process may use, which is often less than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path


def count(root: str | Path = "/") -> int:
    """Processors for this process: what the affinity mask, a quota of its cgroups (containers) and Slurm leave it.

    Args:
        root: where proc/ and sys/ lie.

    Returns:
        1 or more; a quota of 1.5 processors counts as 2.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = [len(affinity(0)) if affinity else os.cpu_count() or 1, *map(math.ceil, _quotas(Path(root)))]
    task = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if task.isascii() and task.isdigit():
        allowed.append(int(task))
    return max(1, min(allowed))


def _quotas(root: Path) -> list[float]:
    """Processors that each cgroup of this process and those above it grant, where they set a bound."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container that sees its own cgroup only, the path is none of the mounted tree: the top is its own.
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):
            if ".." in group.parts:
                continue
            if controllers:  # version 1
                folders = [root / "sys/fs/cgroup" / name / group for name in ("cpu", controllers)]
                pairs = ([_text(f / f"cpu.cfs_{n}_us") for n in ("quota", "period")] for f in folders)
                texts = next((pair for pair in pairs if pair[0]), [])
            else:
                texts = _text(root / "sys/fs/cgroup" / group / "cpu.max").split()
            try:
                quota, period = map(int, texts)  # `max`, or -1 in version 1, is no bound
            except ValueError:
                continue
            if quota > 0 and period > 0:
                found.append(quota / period)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
