"""The command line with a defect planted in how it uses a shared store.

    python -m tests.postgres.driver SABOTAGE WORDS...

retrying: a COMMIT that raised is taken for one that was not written, and given again.
unfenced: nobody reads the token of the lease, and each commit goes to where the record ends now.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from runwright.adapters.libpq import connect
from runwright.adapters.postgres import SQL, PostgresStore
from runwright.cli.main import main
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import CommitUnknown
from runwright.kernel.record.entries import Draft
from runwright.kernel.record.seal import open_head

Commit = Callable[..., int]


def retrying(commit: Commit) -> Commit:
    def again(self: Writer, drafts: Sequence[Draft] = (), **how: Any) -> int:
        try:
            return commit(self, drafts, **how)
        except CommitUnknown:
            store: Any = self._store
            store._db = connect(store.target, SQL["session"])
            self._broken = None
            self.sealed, self.head, self._leaves = open_head(store, self.signer)
            return commit(self, drafts, **how)

    return again


def unfenced(commit: Commit) -> Commit:
    def at_the_end(self: Writer, drafts: Sequence[Draft] = (), **how: Any) -> int:
        self.sealed, self.head, self._leaves = open_head(self._store, self.signer)
        return commit(self, drafts, **how)

    return at_the_end


def sabotage(word: str) -> None:
    """Plant one defect."""
    planted = {"retrying": retrying, "unfenced": unfenced}[word]
    Writer.commit = planted(Writer.commit)  # type: ignore[method-assign]
    if word == "unfenced":
        PostgresStore._fence = lambda self: None  # type: ignore[method-assign]


if __name__ == "__main__":
    sabotage(sys.argv[1])
    del sys.argv[1]
    main()
