"""What a digest costs: 120 samples of a node of 8 GPUs and 20 processes, in CPU time. ``python bench/digest.py``."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from datetime import timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from fleet import Node

from gpuwatch.rules.digest import Sample, digest
from gpuwatch.rules.limits import Limits
from gpuwatch.wire.flat import Shape

COUNT, TURNS, INTERVAL_SECONDS = 120, 40, 5.0


def samples(number: int) -> list[Sample]:
    at = 1_790_000_000.0 + number
    node = Node(number, at)
    places = Shape.parse(node.shape).places()
    found = []
    for turn in range(COUNT):
        node.advance(at + turn * INTERVAL_SECONDS)
        found.append(Sample(at + turn * INTERVAL_SECONDS, places, list(node.values)))
    return found


def main() -> None:
    gc.set_threshold(50_000, 20, 100)  # as a hub has them
    stretches = [samples(number) for number in range(TURNS)]
    spent = []
    for stretch in stretches:
        began = time.process_time()
        digest(stretch, stretch[-1].at + INTERVAL_SECONDS, limits=Limits(), zone=timezone.utc)
        spent.append((time.process_time() - began) * 1000)
    print(f"digest of {COUNT} samples: median {statistics.median(spent):.2f} ms, at most {max(spent):.2f} ms")
    print(f"a sample: {statistics.median(spent) / COUNT:.4f} ms CPU (aim: 0.03)")


if __name__ == "__main__":
    main()
