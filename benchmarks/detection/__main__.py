"""The detection benchmark, one command: `python -m benchmarks.detection --out build/detection.json [--quick]`.

How it is run, and what the bars mean, is told in `benchmarks.parts`.
"""

from __future__ import annotations

import sys

from benchmarks import parts
from benchmarks.detection import picture

PARTS = ("null", "delays", "errors", "real", "known", "cost", "ladder", "estimation", "diagnosis")
BENCHMARK = parts.Benchmark("detection", PARTS, "about a minute and a half", picture.write)


def main(arguments: list[str] | None = None) -> int:
    return parts.main(BENCHMARK, (__doc__ or "").split("\n\n")[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
