"""`python -m runwright`."""

from __future__ import annotations

from runwright.cli.main import main

main()
