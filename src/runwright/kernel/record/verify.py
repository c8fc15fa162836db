"""Says of a record, sentence by sentence, whether it holds, and names the first entry that is bad.

It needs entries as bytes, seals, blobs and the caller's public keys: no store and no network. What
it hashes is what was stored; nothing is encoded again to be verified. Each sentence stands for
itself: a record that is forged, chained again and signed again with the right key still fails the
sentence it breaks. What was not checked has no sentence in the report: skipped is never success.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from runwright.kernel.canonical import commitment, digest, encode
from runwright.kernel.errors import NotCanonical, Usage, VerificationFailed
from runwright.kernel.record import logged, papers
from runwright.kernel.record.entries import (
    BODIES,
    ENTRY_MAX,
    NO_PREV,
    TYPE_MARK,
    Entry,
    Header,
    KeyAdded,
    LedgerAdopted,
    LedgerOpened,
    RoundJudged,
    RoundPlanned,
    TickRefused,
    decode,
    decoder_of,
    tail_for,
)
from runwright.kernel.record.ledger import (
    TILE_BITS,
    Head,
    SealRow,
    StoredBlock,
    StoredEntry,
    Tile,
    Tiles,
    check_inclusion,
    extend,
)
from runwright.kernel.record.logged import CutOf, Logs
from runwright.kernel.record.papers import Papers, StoredPaper
from runwright.kernel.record.seal import (
    Checkpoint,
    Note,
    Proof,
    VerifyKey,
    parse_checkpoint,
    parse_key,
    parse_note,
    verifies,
)
from runwright.kernel.record.signed import AgentSignature, Signed
from runwright.kernel.run import Blob, Content, OutcomeStatus, round_id, tick_id

Level: TypeAlias = Literal[
    "bundle", "bytes", "chain", "tree", "signatures", "blobs", "semantics", "log", "outbox"
]

#: Word -> its level and the sentence that `verify` prints.
SENTENCES: Final[Mapping[str, tuple[Level, str]]] = {
    "size": ("bytes", f"No entry is over {ENTRY_MAX} bytes."),
    "type": ("bytes", "Every entry is of a known type and version."),
    "form": ("bytes", "Every entry has the fields of its type, and no other."),
    "canonical": ("bytes", "Every entry is in canonical form."),
    "seq": ("chain", "Entries are numbered without a gap."),
    "prev": ("chain", "Every entry holds the leaf hash of the one before it."),
    "origin": ("chain", "Every entry and every seal names one ledger."),
    "leaf": ("chain", "Every leaf hash kept beside an entry is that of the entry."),
    "length": ("tree", "No seal covers more entries than there are."),
    "root": ("tree", "The newest seal has the root of its entries."),
    "roots": ("tree", "Every earlier seal has the root of the entries up to it."),
    "tiles": ("tree", "Every tile kept is the root of its entries."),
    "inclusion": ("tree", "Every entry is in the tree of the checkpoint."),
    "noted": ("tree", "Every seal is kept under the size and the root that it signs."),
    "sealed": ("signatures", "There is a seal."),
    "signature": ("signatures", "Every seal is signed by a trusted key."),
    "retired": ("signatures", "No key signed after it was retired."),
    "decided": (
        "signatures",
        "Every decision is signed with a key that its person had at that time.",
    ),
    "agents": (
        "signatures",
        "Every signature of an agent is by a key that it had when the record was made.",
    ),
    "unsigned": ("signatures", "No sealed entry waits for the signature of its agent."),
    "kept": ("blobs", "Every blob is there, or its erasure is on the record."),
    "matching": ("blobs", "Every blob has the bytes that its entry says."),
    "opened": ("semantics", "The ledger is opened by its first entry and by no other."),
    "belongs": ("semantics", "Every entry belongs to what its type says."),
    "counted": ("semantics", "The entries of a run, a round and a tick are counted from 0 on."),
    "tick-id": ("semantics", "Every tick has the id of its occurrence."),
    "round-id": ("semantics", "Every round has the id of its tick and key."),
    "run-id": ("semantics", "Every run has the id of its round and key."),
    "roster": ("semantics", "Every roster is the one planned, with as many runs, each key once."),
    "pinned": ("semantics", "Every entry carries the spec and the facts whose digests it names."),
    "rostered": ("semantics", "Every run is in the roster of a round."),
    "planned": ("semantics", "Every round and run was planned before anything else of it."),
    "order": ("semantics", "The rounds of a tick follow each other, each after a verdict."),
    "started": ("semantics", "Every impure run was started before it ended."),
    "ended": ("semantics", "No run goes on after its end."),
    "judged": ("semantics", "No round is judged before all its runs have ended."),
    "outcomes": ("semantics", "Every verdict counts the outcomes that are recorded."),
    "closed": ("semantics", "No round goes on after its verdict."),
    "erased": ("semantics", "Every erasure names captured bytes of an earlier entry."),
    "correction": ("semantics", "Every correction names an earlier entry."),
    "people": (
        "semantics",
        "Every change of the people, but the first, was approved by an owner.",
    ),
    "allowed": ("semantics", "Every decision is one that its person could make, and made once."),
    "looked": ("semantics", "Every decision is about entries as they stand here."),
    "agent-keys": ("semantics", "Every key of an agent goes through its states in order."),
    "complete": ("semantics", "Every round is there from its plan to its verdict."),
    **{word: ("log", sentence) for word, sentence in logged.SENTENCES.items()},
    **{word: ("outbox", sentence) for word, sentence in papers.SENTENCES.items()},
}

#: What a part of a ledger cannot show: it has no neighbours, no leaf hashes and no retirements.
UNASKED_OF_A_PART: Final = frozenset(
    {"length", "root", "roots", "opened", "seq", "leaf", "retired", *logged.UNASKED_OF_A_PART}
)
#: No ledger has as many entries, so no store has as many tiles, nor tiles of a higher level.
_TILES_MAX: Final = 1 << 62
_LEVELS_MAX: Final = 7
#: How many leaf hashes wait before they become part of the tree.
_CHUNK: Final = 1 << 16


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified, and against which keys."""

    #: In order of seq; a leaf of b"" says that none was kept beside the entry.
    entries: Iterable[StoredEntry]
    seals: Sequence[SealRow]
    #: Digest or commitment -> the bytes kept, or None.
    blob: Callable[[str], Content | None]
    #: Keys that the caller trusts; never one that came with the record.
    keys: Sequence[VerifyKey]
    #: The ledger that it has to be; empty for the one that its first entry names.
    origin: str = ""
    #: The tiles of the store, when they are to be checked too.
    tiles: Tiles | None = None
    #: For a part of a ledger: seq -> its proof. Rounds have to be complete then.
    proofs: Callable[[int], Proof | None] | None = None
    #: What agents signed of them.
    signatures: Iterable[AgentSignature] = ()
    #: The blocks of input logs, log by log and in order; None: they are not checked.
    blocks: Iterable[StoredBlock] | None = None
    #: The outbox, in order; None: it is not checked.
    papers: Iterable[StoredPaper] | None = None
    #: Reads entries a second time, first <= seq < stop; needed when `entries` can be read once.
    again: Callable[[int, int], Iterable[StoredEntry]] | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sentence, and whether it held."""

    word: str
    level: Level
    sentence: str
    held: bool
    #: What broke it first, or a figure.
    detail: str = ""
    #: The first entry that breaks it, when one does.
    seq: int | None = None


class Adoption(NamedTuple):
    """A decision to go on with a store that the signer did not vouch for."""

    seq: int
    reason: str
    #: How many entries the signer remembered, -1 for none, and how many the store held.
    remembered_size: int
    found_size: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification came to."""

    checks: tuple[Check, ...]
    origin: str
    #: How many entries there are, and how many of them a trusted seal covers.
    entries: int
    sealed: int
    #: The root at the newest seal, hex.
    root: str
    #: Rounds with a verdict, and rounds still under way at the end.
    judged: int
    open: int
    #: Where somebody decided to go on with a store that the signer did not vouch for.
    adopted: tuple[Adoption, ...] = ()
    #: Ids of the keys whose signatures held: name+id.
    signers: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Say whether every sentence held."""
        return all(check.held for check in self.checks)

    @property
    def first_bad(self) -> int | None:
        """Return the smallest seq that breaks a sentence."""
        return min((check.seq for check in self.checks if check.seq is not None), default=None)


class Finding(NamedTuple):
    """The first thing that broke a sentence."""

    seq: int | None
    detail: str


def verify(evidence: Evidence, *, lint: bool = True) -> Report:
    """Check a record, level by level; `lint` also holds every entry against its canonical form."""
    return _Verification(evidence, lint=lint).run()


class _Findings:
    """Keeps, for each sentence, the first entry that breaks it."""

    def __init__(self) -> None:
        self.found: dict[str, Finding] = {}
        self.stated = set(SENTENCES)

    def add(self, word: str, seq: int | None, detail: str) -> None:
        known = self.found.get(word)
        if known is None or (seq is not None and (known.seq is None or seq < known.seq)):
            self.found[word] = Finding(seq, detail)

    def first(self, *words: str) -> int | None:
        seqs = (self.found[word].seq for word in words if word in self.found)
        return min((seq for seq in seqs if seq is not None), default=None)

    def checks(self, figures: Mapping[str, str]) -> tuple[Check, ...]:
        return tuple(
            Check(
                word=word,
                level=level,
                sentence=sentence,
                held=word not in self.found,
                detail=self.found[word].detail if word in self.found else figures.get(word, ""),
                seq=self.found[word].seq if word in self.found else None,
            )
            for word, (level, sentence) in SENTENCES.items()
            if word in self.stated
        )


class _Seal(NamedTuple):
    row: SealRow
    note: Note
    checkpoint: Checkpoint


class _Verification:
    """One pass over the entries, then the seals and the blobs."""

    def __init__(self, evidence: Evidence, *, lint: bool) -> None:
        self._evidence = evidence
        self._lint = lint
        self._findings = _Findings()
        self._origin = evidence.origin
        self._seals: list[_Seal] = []
        self._count = 0
        self._roots: dict[int, bytes] = {}
        self._blobs = _Blobs(evidence.blob, self._findings)
        self._keys = _Trust(evidence.keys)
        self._semantics = _Semantics(self._findings, self._blobs, evidence.proofs is not None)

    def run(self) -> Report:
        stated = self._findings.stated
        is_part = self._evidence.proofs is not None
        stated -= UNASKED_OF_A_PART if is_part else {"inclusion"}
        stated -= set() if is_part else {"complete"}
        stated -= set() if self._lint else {"canonical", "form"}
        stated -= set() if self._evidence.tiles else {"tiles"}
        self._read_seals()
        self._scan()
        self._semantics.close()
        figures = self._close_logs()
        self._close_papers()
        self._blobs.close()
        sealed = self._check_seals()
        evidence, semantics = self._evidence, self._semantics
        again = evidence.again or _rereading(evidence.entries)
        semantics.signed.close(again, semantics.agents_of, evidence.signatures, sealed)
        figures |= {} if is_part else {"sealed": _tail(self._count - sealed)}
        newest = self._seals[-1].checkpoint if self._seals else None
        return Report(
            checks=self._findings.checks(figures),
            origin=self._origin,
            entries=self._count,
            sealed=sealed,
            root=newest.root.hex() if newest else "",
            judged=self._semantics.judged,
            open=self._semantics.open,
            adopted=tuple(self._semantics.adopted),
            signers=tuple(self._keys.signed),
        )

    def _close_logs(self) -> dict[str, str]:
        """Hold the blocks of logs against the entries; return the figures of it."""
        logs, blocks = self._semantics.logs, self._evidence.blocks
        if blocks is None or not logs.close(blocks, self._origin):
            self._findings.stated -= logged.SENTENCES.keys()
            return {}
        return dict(logs.figures)

    def _close_papers(self) -> None:
        stored = self._evidence.papers
        if stored is None:
            self._findings.stated -= papers.SENTENCES.keys()
        else:
            self._semantics.papers.close(stored, self._blobs.bytes_of, self._count)

    def _read_seals(self) -> None:
        for row in self._evidence.seals:
            try:
                note = parse_note(row.note)
                checkpoint = parse_checkpoint(note.text)
            except VerificationFailed as error:
                self._findings.add("signature", None, f"the seal at {row.size}: {error}")
                continue
            if checkpoint.size != row.size or checkpoint.root != row.root:
                detail = f"the seal kept for {row.size} entries is another one"
                self._findings.add("noted", None, detail)
            self._seals.append(_Seal(row, note, checkpoint))
        self._seals.sort(key=lambda seal: seal.checkpoint.size)
        if not self._seals:
            self._findings.add("sealed", None, "no seal vouches for these entries")

    # -------------------------------------------------------------------------------- the pass

    def _scan(self) -> None:
        """Read every entry once: its bytes, its place in the chain, its leaf, what it says."""
        # The hot loop: what is asked of every entry stands here, what went wrong elsewhere.
        sha256, readers = hashlib.sha256, _Readers(self._semantics, self._lint)
        is_part = self._evidence.proofs is not None
        # A store keeps a leaf hash beside each entry; a bundle keeps none.
        is_store = self._evidence.tiles is not None
        is_special = is_part or self._lint
        origin, seq, prev = self._origin, 0, NO_PREV
        sizes = [seal.checkpoint.size for seal in self._seals]
        tree = _Growth(sizes, self._evidence, self._findings)
        entries, append, room = iter(self._evidence.entries), tree.leaves.append, tree.room()
        while True:
            for stored in islice(entries, room):
                raw = stored.raw
                leaf = sha256(b"\0" + raw).digest()
                append(leaf)
                try:
                    read, handle = readers[raw[-_TAIL:]]
                    entry = read(raw)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    entry, handle = self._misread(raw, stored.seq if is_part else seq), None
                if entry is not None:
                    if (
                        entry.seq != seq
                        or stored.seq != seq
                        or entry.prev != prev
                        or entry.origin != origin
                    ):
                        seq = self._check_place(entry, stored.seq, seq, prev)
                        origin = self._origin
                    if handle is not None:
                        handle(entry, seq)
                    if entry.blobs or entry.sup is not None:
                        self._semantics.observe(entry, seq)
                if stored.leaf != leaf and (stored.leaf or is_store):
                    detail = f"the leaf hash kept for entry {seq} is not its own"
                    self._findings.add("leaf", seq, detail)
                if is_special or len(raw) > ENTRY_MAX:
                    self._check_more(raw, leaf, seq)
                prev = leaf.hex()
                seq += 1
            if len(tree.leaves) < room:
                break
            room = tree.grow()
        tree.close()
        self._count, self._roots = tree.size, tree.roots

    def _misread(self, raw: bytes, seq: int) -> Any:
        """State why an entry cannot be read; return its header, when at least that can be."""
        try:
            entry = decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            word = "type" if "unknown entry type" in str(error) else "form"
            self._findings.add(word, seq, f"entry {seq}: {error}")
            self._findings.stated.add(word)
        else:
            # Its keys are in another order: the canonical form is for the lint to judge.
            handle = self._semantics.handlers.get(entry.type, self._semantics.alone)
            handle(entry, entry.seq)
            return entry
        try:
            return _Unknown(_HEADER.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _check_place(self, entry: Entry, kept: int, seq: int, prev: str) -> int:
        """State what is wrong with the place of an entry; return the seq to go on from."""
        if not self._origin:
            self._origin = entry.origin
        if entry.origin != self._origin:
            self._findings.add("origin", seq, f"entry {seq} names {entry.origin}")
        is_next, is_part = entry.seq == seq, self._evidence.proofs is not None
        # What it is kept under says where it is; what it says itself may be what was altered.
        place = entry.seq if is_part else max(kept, seq)
        if is_part and entry.seq < seq:
            self._findings.add("prev", entry.seq, f"entry {entry.seq} is there twice")
        elif not is_next and not is_part:
            self._findings.add("seq", seq, f"entry {seq} is numbered {entry.seq}")
        elif kept != entry.seq:
            self._findings.add("seq", seq, f"entry {seq} is kept as entry {kept}")
        if entry.prev != prev and (is_next or not is_part):
            detail = f"entry {place} does not continue the one before it"
            self._findings.add("prev", place, detail)
        return place

    def _check_more(self, raw: bytes, leaf: bytes, seq: int) -> None:
        if len(raw) > ENTRY_MAX:
            self._findings.add("size", seq, f"entry {seq} has {len(raw)} bytes")
        if self._lint:
            self._check_canonical(raw, seq)
        if self._evidence.proofs is not None:
            self._check_inclusion(leaf, seq)

    def _check_canonical(self, raw: bytes, seq: int) -> None:
        try:
            canonical = encode(msgspec.json.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, NotCanonical, RecursionError) as error:
            self._findings.add("canonical", seq, f"entry {seq}: {error}")
            return
        if canonical != raw:
            self._findings.add("canonical", seq, f"entry {seq} has another canonical form")

    def _check_inclusion(self, leaf: bytes, seq: int) -> None:
        proof = self._evidence.proofs(seq) if self._evidence.proofs else None
        seal = self._seals[-1] if self._seals else None
        if proof is None or seal is None:
            self._findings.add("inclusion", seq, f"entry {seq} has no proof")
            return
        size, root = seal.checkpoint.size, seal.checkpoint.root
        if (
            proof.note != seal.row.note
            or proof.index != seq
            or not check_inclusion(leaf, seq, size, proof.hashes, root)
        ):
            self._findings.add("inclusion", seq, f"entry {seq} is not in the tree")

    # ------------------------------------------------------------------------------- the seals

    def _check_seals(self) -> int:
        """Hold the seals against the roots and the keys; return how far trusted ones reach."""
        is_part = self._evidence.proofs is not None
        sound: list[_Seal] = []
        for seal in self._seals:
            size, root = seal.checkpoint.size, seal.checkpoint.root
            if seal.checkpoint.origin != self._origin:
                detail = f"the seal at {size} names {seal.checkpoint.origin}"
                self._findings.add("origin", None, detail)
            if is_part:
                sound.append(seal)
            elif size > self._count:
                detail = f"a seal covers {size} entries, there are {self._count}"
                self._findings.add("length", self._count, detail)
            elif self._roots[size] != root:
                word = "root" if seal is self._seals[-1] else "roots"
                detail = f"the first {size} entries are not those that were sealed"
                self._findings.add(word, None, detail)
            else:
                sound.append(seal)
        added, retired = self._semantics.keys_added, self._semantics.keys_retired
        return self._keys.judge(self._seals, sound, added, retired, self._findings)


def _rereading(
    entries: Iterable[StoredEntry],
) -> Callable[[int, int], Iterable[StoredEntry]] | None:
    if not isinstance(entries, Sequence):
        return None
    known = {stored.seq: stored for stored in entries}
    return lambda first, stop: [known[seq] for seq in range(first, stop) if seq in known]


def _tail(unsealed: int) -> str:
    return f"{unsealed} entries after the newest one are not sealed yet" if unsealed else ""


_HEADER: Final = msgspec.json.Decoder(Header)


class _Unknown:
    """An entry of which only the header can be read: it has a place, and says nothing."""

    blobs = ()
    sup = None

    def __init__(self, header: Header) -> None:
        self.seq, self.prev, self.origin = header.seq, header.prev, header.origin


class _SlimBody(msgspec.Struct, frozen=True, gc=False):
    """What the sentences ask of the body of an entry about a run."""

    key: str
    status: OutcomeStatus | None = None
    reason: str = ""
    memory: str = ""


class _Slim(msgspec.Struct, frozen=True, gc=False):
    """What the sentences ask of an entry about a run."""

    origin: str
    seq: int
    prev: str
    n: int
    body: _SlimBody
    run: str = ""
    round: str = ""
    tick: str = ""
    blobs: tuple[Blob, ...] = ()
    sup: int | None = None


_SLIM: Final = msgspec.json.Decoder(_Slim)
#: So many bytes at the end of an entry say its type, for the types that are frequent.
_TAIL: Final = len(tail_for("round.planned"))
#: What may stand before the type within those bytes: the end of the number `ts`, and a comma.
_BEFORE: Final = (b"", b",", *(b"%d," % digit for digit in range(10)))


class _Readers(dict[bytes, tuple[Callable[[bytes], Any], Callable[[Any, int], None]]]):
    """The end of an entry's bytes -> how to read it, and who takes it in."""

    def __init__(self, semantics: _Semantics, lint: bool) -> None:  # noqa: FBT001 - one caller
        for name in BODIES:
            is_slim = name.startswith("run.") and not lint
            read = _SLIM.decode if is_slim else _reader_of(name)
            reader = read, semantics.handlers.get(name, semantics.alone)
            self.update((before + tail_for(name), reader) for before in _BEFORE)

    def __missing__(self, end: bytes) -> Any:
        """Find the type in an end that reaches further back; a longer name is read slowly."""
        tail = end[end.rfind(TYPE_MARK) :]
        if tail == end or tail not in self:
            msg = "not the end of an entry"
            raise msgspec.DecodeError(msg)
        return self[tail]


def _reader_of(name: str) -> Callable[[bytes], Any]:
    """Return what reads a type, its decoder made only once it is needed."""
    return lambda raw: decoder_of(name).decode(raw)


class _Growth:
    """The tree over the entries read so far, with its roots at the sizes that were sealed."""

    def __init__(self, sizes: Sequence[int], evidence: Evidence, findings: _Findings) -> None:
        self.roots = {0: Head().root()}
        self.leaves: list[bytes] = []
        self._sizes = sorted(set(sizes) - {0}, reverse=True)
        self._head = Head()
        self._tiles = evidence.tiles
        self._findings = findings

    @property
    def size(self) -> int:
        """How many leaves it took in."""
        return self._head.size

    def grow(self) -> int:
        """Take in the leaves that wait; return how many may wait until the next time."""
        tiles: list[Tile] = []
        self._head = extend(self._head, self.leaves, tiles)
        self._check_tiles(tiles)
        self.leaves.clear()
        while self._sizes and self._sizes[-1] <= self._head.size:
            self.roots[self._sizes.pop()] = self._head.root()
        return self.room()

    def close(self) -> None:
        """Take in the last leaves; there is no tile beyond the entries."""
        self.grow()
        if self._tiles is None:
            return
        for level in range(1, _LEVELS_MAX + 1):
            if self._tiles(level, self.size >> (level * TILE_BITS), _TILES_MAX):
                detail = f"a tile of level {level} is kept for entries that there are not"
                self._findings.add("tiles", self.size, detail)

    def room(self) -> int:
        """Return how many leaves may wait: up to the next sealed size, or a whole chunk."""
        chunk = _CHUNK - self._head.size % _CHUNK
        return min(chunk, self._sizes[-1] - self._head.size) if self._sizes else chunk

    def _check_tiles(self, own: Sequence[Tile]) -> None:
        """Hold the tiles that the entries complete against those kept."""
        if self._tiles is None:
            return
        by_level: dict[int, list[Tile]] = {}
        for tile in own:
            by_level.setdefault(tile.level, []).append(tile)
        for level, tiles in by_level.items():
            kept = self._tiles(level, tiles[0].index, tiles[-1].index + 1)
            for place, tile in enumerate(tiles):
                if place >= len(kept) or kept[place] != tile.hash:
                    seq = tile.index << (level * TILE_BITS)
                    detail = f"the tile over entry {seq} and on is not"
                    # An entry under it that was altered is the bad one, not the first of them.
                    altered = self._findings.first("seq", "leaf", "prev")
                    is_under = altered is not None and seq < altered < seq + (
                        1 << (level * TILE_BITS)
                    )
                    self._findings.add("tiles", altered if is_under else seq, detail)


class _Trust:
    """Which keys are believed: the caller's, and those that entries sealed under them name."""

    def __init__(self, keys: Sequence[VerifyKey]) -> None:
        self._trusted = {(key.name, key.id): key for key in keys}
        self.signed: list[str] = []

    def judge(
        self,
        seals: Sequence[_Seal],
        sound: Sequence[_Seal],
        added: Mapping[str, int],
        retired: Mapping[str, int],
        findings: _Findings,
    ) -> int:
        """Check every seal's signatures; return the size of the largest sound and trusted one."""
        candidates = _parsed(added)
        known = {**{(key.name, key.id): key for key, _ in candidates}, **self._trusted}
        signers = {id(seal): self._signers(seal, known, findings) for seal in seals}
        reach, is_growing = 0, True
        while is_growing:
            reach = max(
                (
                    seal.checkpoint.size
                    for seal in sound
                    if any(key in self._trusted for key in signers[id(seal)])
                ),
                default=0,
            )
            new = {
                (key.name, key.id): key
                for key, seq in candidates
                if seq < reach and (key.name, key.id) not in self._trusted
            }
            self._trusted |= new
            is_growing = bool(new)
        for seal in seals:
            self._hold(seal, signers[id(seal)], retired, findings)
        return reach

    def _signers(
        self, seal: _Seal, known: Mapping[tuple[str, bytes], VerifyKey], findings: _Findings
    ) -> list[tuple[str, bytes]]:
        found = []
        for signature in seal.note.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None:
                continue
            if verifies(key.public, signature.data, seal.note.text.encode()):
                found.append((key.name, key.id))
            else:
                detail = f"a signature at {seal.checkpoint.size} entries is wrong"
                findings.add("signature", None, detail)
        return found

    def _hold(
        self,
        seal: _Seal,
        signers: Sequence[tuple[str, bytes]],
        retired: Mapping[str, int],
        findings: _Findings,
    ) -> None:
        size = seal.checkpoint.size
        trusted = [self._trusted[key] for key in signers if key in self._trusted]
        if not trusted:
            findings.add("signature", None, f"no trusted key signed the seal at {size} entries")
        for key in trusted:
            name = f"{key.name}+{key.id.hex()}"
            if name not in self.signed:
                self.signed.append(name)
            if retired.get(key.text(), size) < size:
                seq = retired[key.text()]
                findings.add("retired", seq, f"{name}, retired by entry {seq}, signed at {size}")


def _parsed(added: Mapping[str, int]) -> list[tuple[VerifyKey, int]]:
    keys = []
    for text, seq in added.items():
        try:
            keys.append((parse_key(text), seq))
        except Usage:
            # Not a key of a seal: nothing can be signed with it, so nothing is believed.
            continue
    return keys


class _Blobs:
    """The bytes beside the ledger: there, or erased on the record, and what the entries say."""

    def __init__(self, get: Callable[[str], Content | None], findings: _Findings) -> None:
        self._get = get
        self._findings = findings
        self._checked: dict[tuple[str, int, bool], None] = {}
        self._missing: dict[str, tuple[int, str]] = {}
        self._captured: set[str] = set()
        self._erased: set[str] = set()

    def named(self, entry: Entry, seq: int) -> None:
        """Check the blobs that an entry names."""
        for blob in entry.blobs:
            about = (blob.digest, blob.size, blob.salted)
            if about in self._checked:
                continue
            self._checked[about] = None
            if blob.salted:
                self._captured.add(blob.digest)
            content = self._get(blob.digest)
            if content is None:
                self._missing.setdefault(blob.digest, (seq, blob.name))
                continue
            own = commitment(content.salt, content.data) if blob.salted else digest(content.data)
            is_salted_too = bool(content.salt) and not blob.salted
            if own != blob.digest or len(content.data) != blob.size or is_salted_too:
                self._findings.add("matching", seq, f"{blob.name} of entry {seq} was altered")

    def pinned(self, named: str, seq: int, what: str) -> None:
        """Check bytes that the body of an entry names by their digest."""
        content = self._get(named)
        if content is None:
            self._missing.setdefault(named, (seq, what))
        elif digest(content.data) != named:
            self._findings.add("matching", seq, f"{what} of entry {seq} was altered")

    def erase(self, named: str, seq: int) -> None:
        """Take note of an erasure."""
        self._erased.add(named)
        if named not in self._captured:
            self._findings.add("erased", seq, f"entry {seq} erases what no entry captured")

    def bytes_of(self, named: str) -> bytes | None:
        """Return pinned bytes that are what their digest says."""
        content = self._get(named)
        return content.data if content and digest(content.data) == named else None

    def close(self) -> None:
        """State what is missing without an erasure."""
        for named, (seq, name) in self._missing.items():
            if named not in self._erased:
                self._findings.add("kept", seq, f"{name} of entry {seq} is missing")


class _Round(msgspec.Struct):
    """What is known of a round."""

    seq: int
    tick: str
    pure: bool
    #: The ids of its runs that have not ended, with their keys.
    left: dict[str, str] = {}
    #: The ids of its runs that were started or deferred, with the next `n` of each.
    counts: dict[str, int] = {}
    started: set[str] = set()
    #: The statuses of its runs that have ended.
    ended: list[str] = []
    #: The roster could be read.
    is_known: bool = False
    judged: bool = False


class _Tick(msgspec.Struct):
    """What is known of a tick."""

    #: The index of its next round.
    index: int
    #: Its last round has no verdict yet.
    open: bool = False


class _Roster(msgspec.Struct):
    """The keys of the runs of a round; rounds of one spec often share it."""

    digest: str
    keys: list[str]
    #: What run ids are made of, without the round: `{"key":…`.
    stems: list[bytes]
    #: Two runs have the same key.
    is_twofold: bool
    #: What they read of a log.
    cuts: list[CutOf]


class _Key(msgspec.Struct, gc=False):
    """The part of a planned run that is read here."""

    key: str
    cut: CutOf | None = None


class _Agent(msgspec.Struct, gc=False):
    """The part of a planned run that says who executes it."""

    agent: str = ""


_KEYS: Final = msgspec.json.Decoder(list[_Key])
_AGENTS: Final = msgspec.json.Decoder(list[_Agent])


def _read_roster(named: str, data: bytes) -> _Roster:
    runs = _KEYS.decode(data)
    keys = [run.key for run in runs]
    as_json = msgspec.json.encode
    return _Roster(
        digest=named,
        keys=keys,
        stems=[b'{"key":' + as_json(key) for key in keys],
        is_twofold=len(set(keys)) != len(keys),
        cuts=[run.cut for run in runs if run.cut],
    )


def _run_ids(round: str, roster: _Roster) -> list[str]:  # noqa: A002 - the word of the field
    """Return the run ids of a roster, as `run_id` makes them one by one."""
    sha256, end = hashlib.sha256, b',"round":' + msgspec.json.encode(round) + b"}"
    return [sha256(stem + end).hexdigest() for stem in roster.stems]


class _Semantics:
    """What the entries say together: planned, started, ended, judged."""

    def __init__(self, findings: _Findings, blobs: _Blobs, is_part: bool) -> None:  # noqa: FBT001
        self._add = findings.add
        self._blobs = blobs
        self._is_part = is_part
        self._rounds: dict[str, _Round] = {}
        self._runs: dict[str, _Round] = {}
        self._ticks: dict[str, _Tick] = {}
        self._counts: dict[str, int] = {}
        #: Runs and rounds met before they were planned: id -> the first seq.
        self._early: dict[str, int] = {}
        self.keys_added: dict[str, int] = {}
        self.keys_retired: dict[str, int] = {}
        self.adopted: list[Adoption] = []
        self.judged = 0
        self._is_opened = False
        self._last_roster: _Roster | None = None
        self.signed = Signed(findings.add)
        self.logs = Logs(findings.add, is_part=is_part)
        self.papers = Papers(findings.add)
        #: Entry type -> what takes in an entry of it.
        self.handlers: Final[dict[str, Callable[[Any, int], None]]] = {
            "run.started": self._started,
            "run.deferred": self._deferred,
            "run.finished": self._finished,
            "round.planned": self._planned,
            "round.judged": self._judged,
            "tick.refused": self._refused,
            "spec.applied": self._applied,
            "ledger.opened": self._opened,
            "key.added": self._key_added,
            "key.retired": self._key_retired,
            "blob.erased": self._erased,
            "ledger.adopted": self._adopted,
            "person.added": self._changed,
            "person.revoked": self._changed,
            "decision.made": self._decided,
            "agent.key": self._keyed,
            "log.sealed": self._log_sealed,
            "log.retired": self._log_retired,
        }

    def observe(self, entry: Entry, seq: int) -> None:
        """Take in what any entry may have, whatever its type says."""
        if entry.blobs:
            self._blobs.named(entry, seq)
        if entry.sup is not None and not 0 <= entry.sup < seq:
            self._add("correction", seq, f"entry {seq} corrects entry {entry.sup}")

    @property
    def open(self) -> int:
        """How many rounds have no verdict."""
        return sum(not found.judged for found in self._rounds.values())

    def close(self) -> None:
        """State what only the end shows."""
        for run, seq in self._early.items():
            if run in self._runs or run in self._rounds:
                self._add("planned", seq, f"entry {seq} stands before the plan of what it is about")
            else:
                self._add("rostered", seq, f"entry {seq} is of a run or round that nobody planned")
        if not self._is_opened:
            self._add("opened", 0, "the first entry does not open the ledger")
        if self._is_part:
            for found in self._rounds.values():
                if not found.judged:
                    self._add("complete", found.seq, f"the round planned by {found.seq} is open")

    def _adopted(self, entry: Entry, seq: int) -> None:
        self.observe(entry, seq)
        body: LedgerAdopted = entry.body
        self.adopted.append(Adoption(seq, body.reason, body.remembered_size, body.found_size))

    # --------------------------------------------------------------------------------- the runs

    def _started(self, entry: Entry, seq: int) -> None:
        found = self._round_of(entry, seq)
        if found is not None:
            found.started.add(entry.run)

    def _deferred(self, entry: Entry, seq: int) -> None:
        found = self._round_of(entry, seq)
        if found is not None and not found.pure and entry.run not in found.started:
            self._add("started", seq, f"entry {seq} defers a run that was not started")

    def _finished(self, entry: Entry, seq: int) -> None:
        run, body = entry.run, entry.body
        if body.memory:
            self._blobs.pinned(body.memory, seq, f"what lane {body.key} remembers")
        found = self._runs.get(run)
        if (
            found is None
            or found.left.get(run) != body.key
            or (found.counts.get(run, 0) if found.counts else 0) != entry.n
        ):
            found = self._round_of(entry, seq)
            if found is None:
                return
        status = body.status
        del found.left[run]
        found.ended.append(status)
        if found.pure or run in found.started or status == "skipped" or body.reason == "refused":
            return
        self._add("started", seq, f"entry {seq} ends a run that was not started")

    def _round_of(self, entry: Entry, seq: int) -> _Round | None:
        """Return the round of a run's entry, when the entry may still say something about it."""
        run = entry.run
        found = self._runs.get(run)
        if not run:
            self.alone(entry, seq)
        elif found is None:
            self._early.setdefault(run, seq)
        elif found.judged:
            self._add("closed", seq, f"entry {seq} is of a round that has its verdict")
        else:
            key = found.left.get(run)
            if key is None:
                self._add("ended", seq, f"entry {seq} goes on with a run that has ended")
                return None
            count = found.counts.get(run, 0)
            if entry.n != count:
                self._add("counted", seq, f"entry {seq} has n {entry.n}, not {count}")
            found.counts[run] = count + 1
            if key != entry.body.key:
                own = entry.body.key
                self._add("run-id", seq, f"the run of entry {seq} is {key}, not {own}")
            return found
        return None

    # ------------------------------------------------------------------------------- the rounds

    def _planned(self, entry: Entry, seq: int) -> None:
        body: RoundPlanned = entry.body
        if not entry.round or entry.run or entry.tick:
            self._add("belongs", seq, f"entry {seq} (round.planned) has to belong to one round")
            return
        self._count(entry.round, entry.n, seq)
        if entry.round in self._rounds:
            self._add("closed", seq, f"entry {seq} plans a round again")
            return
        tick = tick_id(
            origin=entry.origin, workload=body.kind, spec=body.name, tick=body.occurrence
        )
        if tick != body.tick:
            self._add("tick-id", seq, f"the tick of entry {seq} is not that of its occurrence")
        if round_id(tick=body.tick, round_key=body.key) != entry.round:
            self._add("round-id", seq, f"the round of entry {seq} is not that of its tick and key")
        self._in_order(body, seq)
        self._carries(entry, "spec", body.spec, seq)
        self._carries(entry, "seen", body.seen, seq)
        found = self._rounds[entry.round] = _Round(seq=seq, tick=body.tick, pure=body.pure)
        roster = self._roster(entry, body, seq)
        if roster is not None:
            found.is_known = True
            found.left = dict(zip(_run_ids(entry.round, roster), roster.keys, strict=True))
            self._runs.update(dict.fromkeys(found.left, found))
            if roster.cuts:
                cuts, bytes_of = roster.cuts, self._blobs.bytes_of
                self.logs.planned(body.name, body.seen, cuts, seq, bytes_of)

    def _carries(self, entry: Entry, name: str, named: str, seq: int) -> None:
        if not any(blob.name == name and blob.digest == named for blob in entry.blobs):
            self._add("pinned", seq, f"entry {seq} does not carry the {name} that it names")

    def _in_order(self, body: RoundPlanned, seq: int) -> None:
        tick = self._ticks.get(body.tick)
        if tick is None:
            tick = self._ticks[body.tick] = _Tick(body.index if self._is_part else 0)
        if body.index != tick.index or tick.open:
            self._add("order", seq, f"the round of entry {seq} is out of order in its tick")
        tick.index, tick.open = body.index + 1, True

    def _roster(self, entry: Entry, body: RoundPlanned, seq: int) -> _Roster | None:
        """Return the roster of a round; None when its bytes are not there."""
        blob = next((blob for blob in entry.blobs if blob.name == "roster"), None)
        if blob is None or blob.digest != body.roster:
            self._add("roster", seq, f"entry {seq} does not carry the roster that it names")
        roster = self._last_roster
        if roster is None or roster.digest != body.roster:
            data = self._blobs.bytes_of(body.roster)
            if data is None:
                return None
            try:
                roster = self._last_roster = _read_roster(body.roster, data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._add("roster", seq, f"the roster of entry {seq} cannot be read: {error}")
                return None
        count = len(roster.keys)
        if count != body.runs or roster.is_twofold:
            twice = ", one key twice" if roster.is_twofold else ""
            detail = f"entry {seq} plans {body.runs} runs, its roster holds {count}{twice}"
            self._add("roster", seq, detail)
        return roster

    def _judged(self, entry: Entry, seq: int) -> None:
        body: RoundJudged = entry.body
        if not entry.round or entry.run or entry.tick:
            self._add("belongs", seq, f"entry {seq} (round.judged) has to belong to one round")
            return
        found = self._rounds.get(entry.round)
        if found is None:
            self._early.setdefault(entry.round, seq)
            return
        self._count(entry.round, entry.n, seq)
        if found.judged:
            self._add("closed", seq, f"entry {seq} judges a round again")
            return
        found.judged = True
        self.judged += 1
        self.papers.judged(entry, seq)
        if found.tick in self._ticks:
            self._ticks[found.tick].open = False
        if found.left:
            open_runs = len(found.left)
            self._add("judged", seq, f"entry {seq} judges a round with {open_runs} runs open")
        counted = {status: count for status, count in body.outcomes.items() if count}
        if found.is_known and counted != Counter(found.ended):
            self._add("outcomes", seq, f"entry {seq} counts other outcomes than are recorded")
        found.left, found.counts, found.started, found.ended = {}, {}, set(), []

    def _refused(self, entry: Entry, seq: int) -> None:
        body: TickRefused = entry.body
        if not entry.tick or entry.run or entry.round:
            self._add("belongs", seq, f"entry {seq} (tick.refused) has to belong to one tick")
            return
        self._count(entry.tick, entry.n, seq)
        tick = tick_id(
            origin=entry.origin, workload=body.kind, spec=body.name, tick=body.occurrence
        )
        if tick != entry.tick:
            self._add("tick-id", seq, f"the tick of entry {seq} is not that of its occurrence")
        self._carries(entry, "spec", body.spec, seq)

    def _applied(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        self._carries(entry, "spec", entry.body.digest, seq)

    def _count(self, owner: str, n: int, seq: int) -> None:
        expected = self._counts.get(owner, 0)
        if n != expected:
            self._add("counted", seq, f"entry {seq} has n {n}, not {expected}")
        self._counts[owner] = expected + 1

    # ------------------------------------------------------------------------ what has no owner

    def alone(self, entry: Entry, seq: int) -> None:
        """Take in an entry that belongs to no run, round or tick."""
        if entry.run or entry.round or entry.tick:
            self._add("belongs", seq, f"entry {seq} ({entry.type}) belongs to nothing")
        elif entry.n:
            self._add("counted", seq, f"entry {seq} has n {entry.n}, not 0")

    def _opened(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        body: LedgerOpened = entry.body
        if seq:
            self._add("opened", seq, f"entry {seq} opens the ledger again")
        else:
            self._is_opened = True
            self.keys_added.setdefault(body.seal_key, seq)

    def _key_added(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        body: KeyAdded = entry.body
        if body.role == "seal":
            self.keys_added.setdefault(body.key, seq)

    def _changed(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        self.signed.changed(entry, seq)

    def _decided(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        self.signed.decided(entry, seq)

    def _keyed(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        self.signed.keyed(entry, seq)

    def _log_sealed(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        self.logs.sealed(entry.body, seq)

    def _log_retired(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        self.logs.retired(entry.body, seq)

    def agents_of(self, planned: RoundPlanned) -> set[str]:
        """Return the agents in a roster; none when its bytes are not there."""
        data = self._blobs.bytes_of(planned.roster)
        try:
            return {run.agent for run in _AGENTS.decode(data)} if data else set()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return set()

    def _key_retired(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        self.keys_retired.setdefault(entry.body.key, seq)

    def _erased(self, entry: Entry, seq: int) -> None:
        self.alone(entry, seq)
        self._blobs.erase(entry.body.digest, seq)
