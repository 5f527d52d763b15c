"""How many processors and how much memory this process may use, which is often less than the machine has."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
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


def memory_bytes(root: str | Path = "/") -> int:
    """Memory for this process: what the machine has, and its cgroups, Slurm and `ulimit -v` leave it.

    Args:
        root: where proc/ and sys/ lie.
    """
    allowed = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_memories(Path(root))]
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY:
        allowed.append(space)
    for name, times in (("SLURM_MEM_PER_NODE", 1), ("SLURM_MEM_PER_CPU", _number("SLURM_CPUS_ON_NODE") or 1)):
        allowed += [_number(name) * times << 20] * bool(_number(name))  # 0: all that the node has
    return max(1, min(allowed))


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _quotas(root: Path) -> list[float]:
    """Processors that each cgroup of this process and those above it grant, where they set a bound."""
    found = []
    for version, folder in _groups(root, "cpu"):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        try:
            quota, period = (int(word) for name in names for word in _text(folder / name).split())
        except ValueError:  # `max` is no bound, nor is -1 in version 1
            continue
        if quota > 0 and period > 0:
            found.append(quota / period)
    return found


def _memories(root: Path) -> list[int]:
    """Bytes that they grant, likewise."""
    texts = (_text(f / ("memory.max" if v == 2 else "memory.limit_in_bytes")) for v, f in _groups(root, "memory"))
    return [int(text) for text in map(str.strip, texts) if text.isdigit() and int(text)]


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """(version, folder) of each cgroup of this process and of those above it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers and controller not in controllers.split(","):
            continue
        # In a container that sees its own cgroup only, the path is none of the mounted tree: the top is its own.
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):
            if ".." in group.parts:
                continue
            if controllers:
                for name in dict.fromkeys((controller, controllers)):
                    yield 1, root / "sys/fs/cgroup" / name / group
            else:
                yield 2, root / "sys/fs/cgroup" / group


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
