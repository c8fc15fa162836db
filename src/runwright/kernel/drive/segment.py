"""A segment of an input log while it fills: what the entry that seals it will say."""

from __future__ import annotations

from runwright.kernel.drive.blocks import Place
from runwright.kernel.errors import require
from runwright.kernel.ports import StoredBlock
from runwright.kernel.record.entries import LogSealed
from runwright.kernel.record.ledger import Head, extend, leaf_hash


class Segment:
    """What is known of the blocks that are in no sealed segment yet."""

    def __init__(self, index: int, done: int) -> None:
        """Begin behind the last record that is sealed."""
        self.index, self.done = index, done
        self._tree = Head()
        self._first_ms = self._last_ms = self._bytes = 0
        self._last_seq, self._digest = done, b""

    def take(self, block: StoredBlock | Place) -> None:
        """Take in the next block."""
        if not self._tree.size:
            self._first_ms = block.first_ms
        self._tree = extend(self._tree, [leaf_hash(block.digest)])
        self._bytes += block.size
        self._last_seq, self._last_ms, self._digest = block.last_seq, block.last_ms, block.digest

    def body(self, kind: str, name: str) -> LogSealed:
        """Return the entry that seals them."""
        require(self._tree.size, "there is a block to seal")
        return LogSealed(
            kind=kind,
            name=name,
            index=self.index,
            first_seq=self.done + 1,
            last_seq=self._last_seq,
            blocks=self._tree.size,
            root=self._tree.root().hex(),
            head=self._digest.hex(),
            first_ms=self._first_ms,
            last_ms=self._last_ms,
            bytes=self._bytes,
        )
