"""One target under atheris, which looks for inputs that reach new code: ``python -m tests.fuzz.one TARGET OPTIONS…``.

Options are libFuzzer's: folders of inputs, ``-max_total_time=60``, ``-merge=1``.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["aioblobcache"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    atheris.enabled_hooks.add("RegEx")
    atheris.enabled_hooks.add("str")
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
