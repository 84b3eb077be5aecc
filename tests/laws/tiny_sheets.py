"""A ledger whose sheets are tiny, so that a few rows are dropped, sealed and merged as millions are."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import rating.ledger
import rating.sheets.sheet
import rating.sheets.shelf
from rating.sheets import merging


@contextmanager
def tiny_sheets(many: int, merged_at_once: int, small: int, piece: int) -> Iterator[None]:
    """However few rows there are, they are dropped where that halves them, sealed, merged. `small`, `piece`: rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.ledger, "_KEPT_BELOW", 0)
        patch.setattr(rating.sheets.shelf, "MANY", many)
        patch.setattr(rating.sheets.shelf, "MERGED_AT_ONCE", merged_at_once)
        patch.setattr(rating.sheets.shelf, "SMALL", small)
        patch.setattr(rating.sheets.sheet, "PIECE", piece)
        patch.setattr(merging, "PIECE", piece)
        yield
