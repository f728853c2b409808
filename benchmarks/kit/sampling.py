"""What a process costs, as the kernel counts it, and on which machine."""

import contextlib
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

__all__ = ["CPU_TICK_S", "cpu_s", "fine_cpu_s", "kept_from_core_s", "machine", "rss_mb"]

CPU_TICK_S = 0.01
"""``cpu_s`` is counted no finer."""


def cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU time until now, in user and kernel mode, of threads that have ended too."""
    return float(sum(process.cpu_times()[:2]))


def fine_cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU time of the threads that run: to the nanosecond if Linux tells it, else to the tick."""
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    if not threads:
        return cpu_s(process)
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def kept_from_core_s(process: psutil.Process) -> float:
    """For how long others had the core while it wanted it; what is late then is not its fault (proc(5), schedstat)."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9


def rss_mb(process: psutil.Process) -> float:
    """Resident memory, in millions of bytes."""
    return round(process.memory_info().rss / 1e6, 1)


def machine() -> dict[str, object]:
    """The processor, and the versions of what matters to speed."""
    cpu = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    packages = {name: version(name) for name in ("aiortc", "av", "uvloop", "websockets")}
    return {"cpu": cpu, "cores": psutil.cpu_count(), "python": platform.python_version(), **packages}
