"""The identities of one partition for the deduplication window: the newest in memory, the others in files.

`held.py` is where to start reading. `rating.deduplicate` asks, and decides what is a duplicate.
"""
