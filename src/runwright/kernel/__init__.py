"""The kernel: the road, the record and the words; it knows nothing outside itself."""
