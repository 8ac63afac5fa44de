"""What the kernel says about the memory of this process."""

from __future__ import annotations

from pathlib import Path

__all__ = ["forget_peak_memory", "memory_bytes"]


def memory_bytes(field: str) -> int:
    """``VmRSS``: what is resident now; ``VmHWM``: the most that was since :func:`forget_peak_memory`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"no {field} in /proc/self/status")


def forget_peak_memory() -> None:
    """Begin anew with the most."""
    Path("/proc/self/clear_refs").write_text("5")
