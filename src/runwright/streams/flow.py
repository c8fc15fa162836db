"""How a stream takes in events and when it ticks, as its spec says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from runwright.kernel.workload import Decoded, Flow
from runwright.streams.cuts import next_planned
from runwright.streams.decode import Decoder
from runwright.streams.events import messages_of
from runwright.streams.failure import why_unread
from runwright.streams.normalized import DECODE_FAILURE
from runwright.streams.spec import StreamSpec, retry_of

#: Events of one commit at most.
BLOCK_LIVE: Final = 256
BLOCK_HISTORY: Final = 1_000


def _no_header(source_id: str) -> str:  # noqa: ARG001
    return ""


def _block_max(spec: StreamSpec) -> int:
    """Return how many events one commit takes in: by the clock a tick may be waiting for it."""
    if not spec.buffer.group_commit_ms:
        return 1
    return BLOCK_LIVE if spec.scheduler.time == "clock" else BLOCK_HISTORY


def flow_of(spec: StreamSpec, header_of: Callable[[str], str] = _no_header) -> Flow:
    """Return how a spec takes in events and when it ticks.

    `header_of` answers with the first line of a CSV source that keeps it aside, else with "".
    """
    by_name = {source.source_id: source for source in spec.sources}
    decoders: dict[str, Decoder] = {}
    is_hysteresis = spec.engine.engine_mode == "hysteresis"

    def decode(source_id: str, items: list[bytes], received_ms: int) -> Decoded:
        decoder = decoders.get(source_id)
        if decoder is None:
            source = by_name[source_id]
            decoder = decoders[source_id] = Decoder.of(source, header_of(source_id))
        return Decoded(*decoder.decode(items, received_ms))

    def next_ms(last_ms: int | None, opened_ms: int) -> int:
        return next_planned(spec, last_ms, opened_ms)

    def published(outcomes: Mapping[str, int]) -> Mapping[str, int]:
        completed = outcomes.get("done", 0)
        failed = sum(outcomes.values()) - completed
        counts = {
            "EngineRunStarted": completed + failed,
            "EngineRunCompleted": completed,
            "EngineRunFailed": failed,
            "HysteresisDecisionPublished": completed if is_hysteresis else 0,
        }
        return {name: count for name, count in counts.items() if count}

    return Flow(
        sources=[source.source_id for source in spec.sources],
        time=spec.scheduler.time,
        decode=decode,
        next_ms=next_ms,
        published=published,
        said=messages_of,
        unread=DECODE_FAILURE,
        why_unread=why_unread,
        skips_missed=spec.scheduler.on_restart == "skip",
        block_max=_block_max(spec),
        ingestion_retry=retry_of(spec.ingestion_retry),
        max_block_ms=spec.output_publish.max_block_ms,
    )
