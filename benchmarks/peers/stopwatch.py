"""What every runner beside this file measures and prints, with the standard library alone.

A runner is started as `python <runner>.py SOURCE TARGET` by the interpreter of its tool. It
prints one line of JSON and writes its factors to TARGET: date, ticker and the 14 factors.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


def measure(
    tool: str,
    version: str,
    load: Callable[[str], Any] | None,
    compute: Callable[[Any], Any],
    write: Callable[[Any, str], None],
) -> None:
    """Time load(SOURCE) and compute(loaded) of one uncached run; imports and write are not timed.

    Without `load` the tool reads while it computes: `compute` is given SOURCE, and
    `seconds_load` is null.
    """
    source, target = sys.argv[1:3]
    began, cpu = time.perf_counter(), time.process_time()
    loaded = load(source) if load else source
    between = time.perf_counter()
    factors = compute(loaded)
    ended = time.perf_counter()
    line = {
        "tool": tool,
        "version": version,
        "seconds_load": between - began if load else None,
        "seconds_compute": ended - between,
        "seconds": ended - began,
        "seconds_cpu": time.process_time() - cpu,
        "peak_mb": peak_mb(),
    }
    print(json.dumps(line), flush=True)
    write(factors, target)


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes), libraries included.

    From VmHWM where there is one: ru_maxrss of a child begins at its parent's on Linux.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
