"""Stands for a function of a user: a few thousand operations and one JSON line, about 14 ms."""

from __future__ import annotations

import json
import sys


def main() -> int:
    values = [(number * 7919 + 3) % 101 for number in range(1000)]
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / len(values)
    print(json.dumps({"function": "third", "mean": mean, "spread": spread}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
