"""The drive: moves, never judges."""
