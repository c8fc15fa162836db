"""Wires settings to adapters and workloads: alone knows the concrete ones, one job a file."""
