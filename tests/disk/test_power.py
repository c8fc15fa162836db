"""The power is cut at any moment: nothing acknowledged is lost, and the next start goes on."""

from __future__ import annotations

import pytest

from tests.disk import builds
from tests.disk.cuts import GONE
from tests.disk.cutting import cut_cycles, cut_export, cut_init, cut_ledger, cut_rotation
from tests.disk.volumes import Volumes

pytestmark = pytest.mark.slow

#: Cuts of a session and of a campaign, and after how many without a loss a control has failed.
LEDGER_CUTS, LEDGER_CUTS_MAX = 8, 100
CYCLE_CUTS, CYCLE_CUTS_MAX = 8, 100
INIT_CUTS, INIT_CUTS_MAX = 6, 60
ROTATION_CUTS = 4
CONTROL_CUTS, CONTROL_CUTS_MAX = 40, 50

#: How what the signer remembers, the newest seal and the entries may stand to each other.
ORDERS = {"all equal", "entries ahead of both", "memory ahead of the seal"}


def test_a_power_cut_loses_no_entry_and_no_seal(volumes: Volumes, is_campaign: bool) -> None:
    """Every acknowledged one is there; the signer vouches for the store in each order of the two.

    The next start recovers, seals, and the record verifies.
    """
    campaign = cut_ledger(volumes, count=LEDGER_CUTS_MAX if is_campaign else LEDGER_CUTS, seed=1)
    print(campaign.report("ledger, FULL"))
    assert campaign.unsound == []
    found = {left.order for left in campaign.cuts}
    assert found <= ORDERS
    assert found == ORDERS or not is_campaign


def test_a_power_cut_in_a_cycle_loses_and_repeats_nothing(
    volumes: Volumes, is_campaign: bool
) -> None:
    """What was announced is recorded, what acted was planned, evidence that was delivered is there.

    The next start closes what was under way and delivers what waits.
    """
    campaign = cut_cycles(volumes, count=CYCLE_CUTS_MAX if is_campaign else CYCLE_CUTS, seed=2)
    print(campaign.report("cycles, FULL"))
    assert campaign.unsound == []
    assert any(left.recovered for left in campaign.cuts)


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_a_store_that_is_not_flushed_is_caught(
    volumes: Volumes, is_campaign: bool, level: str
) -> None:
    """The control: acknowledged entries are lost, and the signer notices."""
    count = CONTROL_CUTS_MAX if is_campaign else CONTROL_CUTS
    campaign = cut_ledger(
        volumes,
        build=getattr(builds, level),
        count=count,
        seed=3,
        is_enough=lambda left: left.lost > 0 and not is_campaign,
    )
    print(campaign.report(f"ledger, {level}"))
    assert sum(left.lost for left in campaign.cuts) > 0
    assert "rollback-detected" in {left.code for left in campaign.cuts}


@pytest.mark.parametrize("name", ["MEMORY_UNSYNCED", "MEMORY_LATE"])
def test_a_signer_that_remembers_too_late_is_caught(
    volumes: Volumes, is_campaign: bool, name: str
) -> None:
    """The control: a sound store is refused, because the signer knows less than it holds."""
    count = CONTROL_CUTS_MAX if is_campaign else CONTROL_CUTS
    campaign = cut_ledger(
        volumes,
        build=getattr(builds, name),
        count=count,
        seed=4,
        is_enough=lambda left: bool(left.code) and not is_campaign,
    )
    print(campaign.report(f"ledger, {name}"))
    assert {left.code for left in campaign.cuts} >= {"signer-memory-lost"}
    assert sum(left.lost for left in campaign.cuts) == 0


def test_a_sink_that_does_not_sync_is_caught(volumes: Volumes, is_campaign: bool) -> None:
    """The control: evidence that counts as delivered is an empty file."""
    count = CONTROL_CUTS_MAX if is_campaign else CONTROL_CUTS
    campaign = cut_cycles(
        volumes,
        build=builds.PAPERS_UNSYNCED,
        count=count,
        seed=5,
        is_enough=lambda left: bool(left.broken) and not is_campaign,
    )
    print(campaign.report("cycles, PAPERS_UNSYNCED"))
    assert {words for left in campaign.cuts for words in left.broken} == {GONE}


def test_a_power_cut_in_init_leaves_a_project_or_none(volumes: Volumes, is_campaign: bool) -> None:
    """One that had ended well is there; one that had not is there too, or can be given again."""
    count = INIT_CUTS_MAX if is_campaign else INIT_CUTS
    assert cut_init(volumes, count=count, seed=6) == []


def test_an_init_that_does_not_sync_its_folder_is_caught(volumes: Volumes) -> None:
    """The control: the store is not yet where it was put."""
    wrong = cut_init(volumes, build=builds.INIT_UNSYNCED, count=2, seed=7)
    assert "cut 1: `init` had ended well and there is no store" in wrong


def test_a_power_cut_in_a_rotation_of_the_key_leaves_one_to_finish(
    volumes: Volumes, is_campaign: bool
) -> None:
    """Work goes on, the rotation can be given again, and the record verifies with the keys left."""
    count = INIT_CUTS_MAX if is_campaign else ROTATION_CUTS
    assert cut_rotation(volumes, count=count, seed=8) == []


def test_a_power_cut_leaves_an_exported_bundle_whole(volumes: Volumes) -> None:
    """Each of its files is as it was; in a build that does not sync them, none is: the control."""
    total, wrong = cut_export(volumes, builds.WHOLE)
    assert (total > 5, wrong) == (True, [])
    total, wrong = cut_export(volumes, builds.BUNDLES_UNSYNCED)
    assert len(wrong) > total // 2
