"""The rows of the ledger of one partition that no longer change: in files, found by event and by cell.

`shelf.py` is where to start reading. `rating.ledger` asks, and decides which rows count.
"""
