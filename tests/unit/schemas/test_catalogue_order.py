"""What people write keeps its order and its numbers."""

from schemas.catalogue import join_documents, read_catalogue, split_documents
from schemas.faults import Number, encode_document

BOOK = """
meters: {m: {event: e, aggregate: count, where: {$.x: 1e3}}}
price_books:
  b: {currency: USD, charges: {zeta: {price: {model: flat, amount: 1}}, alpha: {price: {model: flat, amount: 2}}}}
"""


def test_charges_stay_in_the_order_written() -> None:
    written, faults = read_catalogue(BOOK)
    assert written is not None and not faults
    again = join_documents(split_documents(read_catalogue(encode_document(written))[0] or written))
    assert list(again.price_books["b"].charges) == ["zeta", "alpha"]


def test_an_exponent_without_a_point_is_a_number() -> None:
    written, _ = read_catalogue(BOOK)
    assert written is not None
    assert written.meters["m"].where == {"$.x": Number("1e3")}
