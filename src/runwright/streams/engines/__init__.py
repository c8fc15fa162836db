"""Engines that show the seam; what they say of a market is an example, not advice."""
