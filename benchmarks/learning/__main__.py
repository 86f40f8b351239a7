"""The learning benchmark, one command: `python -m benchmarks.learning --out build/learning.json [--quick]`.

How it is run, and what the bars mean, is told in `benchmarks.parts`.
"""

from __future__ import annotations

import sys

from benchmarks import parts
from benchmarks.learning import picture

PARTS = ("prequential", "late", "overhead", "forgetting", "trials", "bandits", "attack", "freshness")
BENCHMARK = parts.Benchmark("learning", PARTS, "about two minutes", picture.write)


def main(arguments: list[str] | None = None) -> int:
    return parts.main(BENCHMARK, (__doc__ or "").split("\n\n")[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
