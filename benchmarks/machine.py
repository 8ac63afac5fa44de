"""The machine that a run is on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["machine_of"]


def machine_of() -> dict[str, str]:
    """What is to be known of this one."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory_bytes": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "system": f"{platform.system()} {platform.release()}",
    }
