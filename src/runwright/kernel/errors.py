"""Every error that Runwright raises on purpose, in one tree.

    RunwrightError
    |- Halt            fail closed: the record or the evidence cannot be trusted     exit 4
    |  |- RollbackDetected, SignerMemoryLost, StoreCorrupt, StoreUnwritable, CommitUnknown
    |  |- StoreUnreachable, LeaseLost
    |- Deferred        not now: somebody else has it, or it may work later           exit 75
    |  |- StoreBusy
    |  `- BufferFull
    |- WorkFailed      this unit of work did not succeed                             exit 5
    |- Usage           the caller: an argument, a file, a setting                    exit 2
    |  |- InvalidSpec, InvalidSetting, UnknownName, NotCanonical, StoreMissing, StoreVersion
    |  |- InputsRetired
    |  |- Denied, Frozen  what a person may not decide, or has decided against
    |  `- Refused      a demand that cannot be met here
    |- VerificationFailed                                                            exit 6
    `- InternalError   an invariant of ours does not hold                            exit 1

Each class carries a stable word (`code`), the exit status of the command that ends with it and a
hint that says what to do. The class docstring is the default message.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Exit(enum.IntEnum):
    """The exit statuses, one table for every command (docs/reference/exit-statuses.md)."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    NEGATIVE = 3
    HALT = 4
    FAILED_FUNCTIONS = 5
    VERIFICATION = 6
    INCONCLUSIVE = 7
    BUSY = 75
    TIMED_OUT = 124
    SIGINT = 130
    SIGTERM = 143


class RunwrightError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    status: ClassVar[Exit] = Exit.INTERNAL
    hint: str = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        """Keep the message, or the first line of the class docstring when there is none."""
        super().__init__(message or (type(self).__doc__ or "").strip().partition("\n")[0])
        if hint:
            self.hint = hint


class Halt(RunwrightError):
    """The record cannot be trusted, so nothing goes on."""

    code = "halt"
    status = Exit.HALT


class RollbackDetected(Halt):
    """The store is older than, or different from, what was sealed."""

    code = "rollback-detected"
    hint = (
        "Restore the newest copy of the store. If this copy is meant to go on, "
        "`runwright ledger adopt --reason TEXT` records that it does."
    )


class SignerMemoryLost(Halt):
    """The signer does not remember this ledger."""

    code = "signer-memory-lost"
    hint = (
        "Restore the signer's memory (setting signer.memory). If it is gone for good, "
        "`runwright ledger adopt --reason TEXT` records that and goes on."
    )


class StoreCorrupt(Halt):
    """The store does not hold what was written to it."""

    code = "store-corrupt"
    hint = (
        "Keep the file as it is, run `runwright verify --store`, and restore a copy that verifies."
    )


class StoreUnwritable(Halt):
    """The store cannot be written."""

    code = "store-unwritable"
    hint = "Free space or make the store writable, then start again: what was committed is kept."


class CommitUnknown(Halt):
    """A commit raised, so whether it is durable is not known."""

    code = "commit-unknown"
    hint = "Start again: the next start reads what was kept and goes on from there."


class StoreUnreachable(Halt):
    """The database server does not answer."""

    code = "store-unreachable"
    hint = (
        "Look at the server and at `runwright config show --origin`; then start again: what was "
        "committed is kept."
    )


class LeaseLost(Halt):
    """Another conductor took the store over."""

    code = "lease-lost"
    hint = "Nothing of it was written. The other conductor has closed what was under way here."


class Deferred(RunwrightError):
    """Not now: the same may work later."""

    code = "deferred"
    status = Exit.BUSY


class StoreBusy(Deferred):
    """Another conductor holds the store."""

    code = "store-busy"
    hint = "Wait for it to end, or submit one-shot runs: they are taken by the one that conducts."


class BufferFull(Deferred):
    """The input log holds as many records as it may."""

    code = "buffer-full"
    hint = (
        "Nothing was taken and nothing dropped: the source waits until segments of the log are "
        "retired. `buffer_retention` of the stream says how many records may be there."
    )


class WorkFailed(RunwrightError):
    """A unit of work did not succeed."""

    code = "work-failed"
    status = Exit.FAILED_FUNCTIONS


class Usage(RunwrightError):
    """The command, a file or a setting is not as it has to be."""

    code = "usage"
    status = Exit.USAGE


class InvalidSpec(Usage):
    """A spec file is not valid."""

    code = "invalid-spec"


class InvalidSetting(Usage):
    """A setting is not valid."""

    code = "invalid-setting"
    hint = "`runwright config show --origin` says where each value comes from."


class UnknownName(Usage):
    """There is nothing of that name."""

    code = "unknown-name"


class Refused(Usage):
    """A demand cannot be met on this machine or at this level."""

    code = "refused"


class Denied(Usage):
    """This decision does not count: its person, key, role, subject or signature is not right."""

    code = "denied"
    hint = "`runwright people list` says who may decide what, and with which keys."


class Frozen(Usage):
    """A decision of a person stands against it."""

    code = "frozen"
    status = Exit.INCONCLUSIVE
    hint = "`runwright decide spec/NAME continue` lifts a freeze; what was closed stays closed."


class NotCanonical(Usage):
    """A value has no canonical form: floats, NaN, big integers, non-ASCII keys, lone surrogates."""

    code = "not-canonical"
    hint = "Give a float as the decimal of its shortest form, a string."


class InputsRetired(Usage):
    """The records were deleted when their segment of the input log was retired."""

    code = "inputs-retired"
    hint = (
        "Their segments are in the ledger as log.sealed and log.retired; a copy of the store from "
        "before can still be replayed."
    )


class StoreMissing(Usage):
    """There is no store here."""

    code = "store-missing"
    hint = "`runwright init` makes one."


class StoreVersion(Usage):
    """The store was written by another version of Runwright."""

    code = "store-version"
    hint = "`runwright db migrate` brings an older store up; a newer one needs a newer Runwright."


class VerificationFailed(RunwrightError):
    """The record does not verify."""

    code = "verification-failed"
    status = Exit.VERIFICATION


class InternalError(RunwrightError):
    """An invariant of Runwright does not hold; this is a defect."""

    code = "internal"
    status = Exit.INTERNAL
    hint = "Please report this with the command and the message."


def require(condition: object, message: str) -> None:
    """Raise InternalError when an invariant does not hold; unlike `assert`, `-O` keeps it."""
    if not condition:
        raise InternalError(message)
