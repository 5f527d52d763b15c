"""Processors and memory are what this process may use: affinity, quotas of cgroups, Slurm, limits."""

import os
import resource

import pytest

from deepfake_detection import cli, cpus


def system(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2, V1 = (
    {"proc/self/cgroup": "0::/job/task\n"},
    {"proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n"},
)


@pytest.mark.parametrize(
    "files, expected",
    [
        pytest.param({}, 8, id="none"),
        pytest.param(V2 | {"sys/fs/cgroup/job/task/cpu.max": "200000 100000\n"}, 2, id="v2"),
        pytest.param(V2 | {"sys/fs/cgroup/job/task/cpu.max": "max 100000\n"}, 8, id="v2-no-bound"),
        pytest.param(V2 | {"sys/fs/cgroup/job/task/cpu.max": "150000 100000\n"}, 2, id="v2-a-part"),
        pytest.param(V2 | {"sys/fs/cgroup/job/task/cpu.max": "50000 100000\n"}, 1, id="v2-half-a-processor"),
        pytest.param(V2 | {"sys/fs/cgroup/job/cpu.max": "300000 100000\n"}, 3, id="v2-of-a-group-above"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4, id="v2-container"),
        pytest.param(
            {"proc/self/cgroup": "0::/../../up\n", "sys/fs/cgroup/cpu.max": "400000 100000"},
            4,
            id="v2-above-the-container",
        ),
        pytest.param(V2 | {"sys/fs/cgroup/cpu.max": "nonsense"}, 8, id="v2-nonsense"),
        pytest.param(V1 | {"sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "200000",
                           "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000"}, 2, id="v1"),
        pytest.param(V1 | {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000",
                           "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000"}, 3, id="v1-container"),
        pytest.param(V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                           "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8, id="v1-no-bound"),
        pytest.param({"proc/self/cgroup": "garbage\n::::\n\n"}, 8, id="garbage"),
    ],
)  # fmt: skip
def test_quotas(monkeypatch, tmp_path, files, expected):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cpus.count(system(tmp_path, files)) == expected


@pytest.mark.parametrize(
    "task, expected", [("3", 3), ("1", 1), ("0", 1), ("64", 8), ("", 8), ("x", 8), ("-2", 8), ("²", 8), ("2(x3)", 8)]
)
def test_slurm(monkeypatch, tmp_path, task, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", task)
    assert cpus.count(tmp_path) == expected
    if tmp_path and expected < 8:
        assert cli.parser("A stage.").parse_args([]).workers <= expected


def test_affinity_and_a_system_without_it(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5}, raising=False)
    assert cpus.count(tmp_path) == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpus.count(tmp_path) == 1


MACHINE, G = 64 << 30, 1 << 30
ALL = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE")


@pytest.fixture
def machine(monkeypatch):
    """64 GiB, and no limit."""
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": MACHINE // 4096}.get)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    for name in ALL:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "files, expected",
    [
        pytest.param({}, MACHINE, id="none"),
        pytest.param(V2 | {"sys/fs/cgroup/job/task/memory.max": f"{8 * G}\n"}, 8 * G, id="v2"),
        pytest.param(V2 | {"sys/fs/cgroup/job/task/memory.max": "max\n"}, MACHINE, id="v2-no-bound"),
        pytest.param(V2 | {"sys/fs/cgroup/job/memory.max": f"{4 * G}\n"}, 4 * G, id="v2-of-a-group-above"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{2 * G}"}, 2 * G, id="v2-container"),
        pytest.param(V2 | {"sys/fs/cgroup/memory.max": "nonsense"}, MACHINE, id="v2-nonsense"),
        pytest.param(V1 | {"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{3 * G}\n"}, 3 * G, id="v1"),
        pytest.param(V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{5 * G}"}, 5 * G, id="v1-container"),
        pytest.param(
            V1 | {"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n"},
            MACHINE,
            id="v1-no-bound",
        ),
    ],
)
def test_memory_of_cgroups(machine, tmp_path, files, expected):
    assert cpus.memory_bytes(system(tmp_path, files)) == expected


@pytest.mark.parametrize(
    "variables, expected",
    [
        pytest.param({"SLURM_MEM_PER_NODE": "16384"}, 16 * G, id="a node"),
        pytest.param({"SLURM_MEM_PER_NODE": "0"}, MACHINE, id="all of a node"),
        pytest.param({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "4"}, 8 * G, id="a processor"),
        pytest.param({"SLURM_MEM_PER_CPU": "2048"}, 2 * G, id="a processor, of unknown many"),
        pytest.param({"SLURM_MEM_PER_NODE": "4G"}, MACHINE, id="nonsense"),
    ],
)
def test_memory_of_slurm(machine, monkeypatch, tmp_path, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cpus.memory_bytes(tmp_path) == expected


def test_memory_of_a_limit(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (G, G))
    assert cpus.memory_bytes(tmp_path) == G
