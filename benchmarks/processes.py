"""Processes under measurement: started, awaited, and what they cost in time and memory. Linux: reads /proc.

Owns clocks and process ids; refuses to know what the processes do.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_S = 30.0


class BenchmarkError(Exception):
    """A process that was to be measured failed; what it said is in the message."""


class Cost(NamedTuple):
    """Of a whole process: seconds of wall and CPU time, largest resident memory in MiB."""

    wall_s: float
    cpu_s: float
    memory_mib: float


class Measured:
    """One process under measurement; its output goes to a file."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self._log = log
        self._began = time.perf_counter()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
            )

    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    def cpu_s(self) -> float:
        """CPU time that the running process has used so far, in user and kernel."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def wait_until(self, holds: Callable[[], bool], deadline_s: float, every_s: float = 0.1) -> None:
        """Wait for a condition. Raises BenchmarkError when the process ends or the deadline passes first."""
        while not holds():
            if self._process.poll() is not None:
                raise BenchmarkError(f"ended with {self._process.returncode}: {self.said()}")
            if self.elapsed_s() > deadline_s:
                self.stop()
                raise BenchmarkError(f"not done within {deadline_s:.0f} s: {self.said()}")
            time.sleep(every_s)

    def finish(self, stop: bool = False) -> Cost:
        """Wait for the end (after asking for it, if `stop`). Raises BenchmarkError unless it was a good one."""
        if stop:
            self._process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(self._process.pid, 0)
        wall = self.elapsed_s()
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code
        if code not in ((0, -signal.SIGTERM) if stop else (0,)):
            raise BenchmarkError(f"ended with {code}: {self.said()}")
        return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    def stop(self) -> None:
        """End it whatever it does."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
