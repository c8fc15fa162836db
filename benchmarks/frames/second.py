"""Stands for a function of a user that needs pandas: a small frame and one JSON line."""

from __future__ import annotations

import json
import sys

import pandas as pd


def main() -> int:
    values = [(number * 7919 + 1) % 101 for number in range(1000)]
    frame = pd.DataFrame({"value": values, "group": [number % 7 for number in range(1000)]})
    means = frame.groupby("group")["value"].mean()
    print(json.dumps({"function": "second", "mean": float(means.mean())}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
