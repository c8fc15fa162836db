"""A recorded round is read back as it was."""

from __future__ import annotations

import pytest

from runwright.kernel.canonical import digest
from runwright.kernel.criteria import Criterion, Finding, Verdict
from runwright.kernel.drive.recall import pinned, policy_of, recall, verdict_of
from runwright.kernel.errors import StoreCorrupt
from runwright.kernel.run import Rate, Retry, Round
from tests.kernel.drive.rig import plan_of, round_of, workload_of

VERDICT = Verdict(
    status="FAIL",
    label="NO-GO",
    counts={"done": 2},
    reasons=("too few",),
    findings=(
        Finding(
            criterion=Criterion(signal="n", op=">=", threshold="0.5"), result="failed", value="0.4"
        ),
    ),
    value={"kappa": "0.1"},
)


def test_a_round_comes_back_as_it_was_judged(rig):
    """Plan, facts, memory, outcomes and verdict are those that the pure rooms saw."""
    seen = []

    def judge(this, round_, outcomes):
        seen.append((this, round_, list(outcomes)))
        return VERDICT

    planned = round_of(
        runs=[plan_of("b", "count", lane="x", agent="LARS"), plan_of("a", "raises")],
        rate=Rate(starts=9, period_s=0.5),
        label="LABEL",
    )
    made = rig(workload_of(planned, judge=judge, observe=lambda *_: {"n": [1]}))
    made.conduct(at=0)
    made.conduct(at=1)
    for (this, round_, outcomes), entry in zip(seen, made.entries("round.planned"), strict=True):
        found = recall(made.store, entry.seq)
        assert found.id == entry.round
        assert found.round == round_
        assert found.facts == this.facts
        assert found.memory == this.memory
        assert [found.outcomes[key] for key in sorted(found.outcomes)] == outcomes
        assert verdict_of(found.judged) == VERDICT
        assert [each.type for each in found.entries] == [
            "round.planned",
            "run.finished",
            "run.finished",
            "round.judged",
        ]
        assert found.counts == {"a": 1, "b": 1}


def test_an_impure_round_says_which_runs_had_started(rig):
    """With the number of the last attempt; `stop` bounds what is read."""
    made = rig(workload_of(round_of("a", "b", pure=False)))
    made.conduct()
    seq = made.entries("round.planned")[0].seq
    half = recall(made.store, seq, seq + 3)
    assert half.started == {"a": 1}
    assert set(half.outcomes) == {"a"}
    assert half.judged is None
    whole = recall(made.store, seq)
    assert whole.started == {"a": 1, "b": 1}
    assert whole.counts == {"a": 2, "b": 2}


def test_entries_of_other_rounds_are_left_out(rig):
    """Only what belongs to the round and its runs."""
    made = rig(workload_of(round_of("a", key="one"), round_of("a", key="two")))
    made.conduct()
    first, second = made.entries("round.planned")
    assert {entry.seq for entry in recall(made.store, first.seq).entries} == {2, 3, 4}
    assert {entry.seq for entry in recall(made.store, second.seq).entries} == {5, 6, 7}


@pytest.mark.parametrize(
    "planned",
    [
        Round(key="k"),
        Round(key="k", pure=False, place="thread", workers=7, judge_every=3, label="L"),
        Round(key="k", rate=Rate(starts=1, period_s=0.1), retry=Retry(attempts=2, min_s=0.25)),
        Round(key="k", deadline_s=2.5),
        Round(key="k", deadline_s=2),
    ],
)
def test_a_policy_keeps_every_field(planned):
    """Numbers with a fraction are decimals as text in the record, and numbers again after it."""
    import msgspec

    from runwright.kernel.canonical import check

    policy = policy_of(planned)
    check(policy)
    named = ("key", "label", "pure", "place", "workers")
    plain = {**policy, **{name: getattr(planned, name) for name in named}}
    assert not set(policy) & set(named)
    assert msgspec.convert(plain, Round, strict=False) == planned


def test_a_seq_that_holds_no_plan_is_refused(rig):
    """The entry is named."""
    made = rig()
    with pytest.raises(StoreCorrupt, match=r"seq 0 is ledger.opened, not round.planned"):
        recall(made.store, 0)


def test_a_pinned_blob_is_checked_where_it_is_read(rig):
    """Missing and altered are told apart."""
    made = rig()
    made.conduct()
    kept = made.entries("round.planned")[0].body.spec
    assert digest(pinned(made.store, kept, 0)) == kept
    with pytest.raises(StoreCorrupt, match=r"seq 7: the blob 00 is missing"):
        pinned(made.store, "00", 7)


def test_an_altered_blob_stops_the_recall(on_sqlite):
    """The seq and the digest are named."""
    made = on_sqlite(workload_of(round_of("a")))
    made.apply()
    made.conduct()
    planned = made.entries("round.planned")[0]
    made.store._db.execute("UPDATE blob SET data = x'00' WHERE digest = ?", (planned.body.roster,))
    with pytest.raises(StoreCorrupt, match=f"seq 2: the blob {planned.body.roster} is altered"):
        recall(made.store, planned.seq)
