"""Packs of usage events, made as the door makes them."""

from ingest.columns import Rows
from ingest.pack import encode_pack
from schemas.identity import content_fingerprint, event_identity


def pack(ids: list[str], arrived: list[int], customer: str = "acme", data: bytes = b'{"n": 1.50}') -> bytes:
    """Events of one customer, with these ids and arrivals."""
    many = len(ids)
    return encode_pack(
        "default",
        Rows(
            [event_identity("default", customer, "gate", id) for id in ids],
            [content_fingerprint(data)] * many,
            [customer] * many,
            [customer] * many,
            ["gate"] * many,
            ["use"] * many,
            ids,
            arrived,
            arrived,
            [data] * many,
            [None] * many,
        ),
        None,
    )
