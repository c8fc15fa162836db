"""Streams: an unbounded stream of events as a replayable sequence of engine runs."""
