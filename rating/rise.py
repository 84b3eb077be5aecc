"""After a repair: where what was emitted and what the state says do not agree, the state is said again, above it.

A line's revision counts what changed it, whatever the steps were, so a state that was made again by other steps says
the same under the same revision, and there is nothing to do here. It is looked at nonetheless: consumers keep the
highest revision, and a wrong one must not be the highest.
"""

from collections.abc import Iterable

import msgspec

from rating.billing import Biller
from rating.engine import RatingEngine
from rating.items import line_item
from schemas import topics
from schemas.output import LineItem
from streams.processor import Output, PartitionProcessor

_ITEM = msgspec.json.Decoder(LineItem)


class _Revised(msgspec.Struct, frozen=True):
    revision: int


_REVISED = msgspec.json.Decoder(_Revised)


def rise_above(processor: PartitionProcessor, emitted: Iterable[tuple[bytes, bytes]]) -> list[Output]:
    """The line items that must be said again. `emitted`: keys and values of `taximeter.line-items`, in any order.

    A line item that includes more of the log than the state does is left: the state will come to it.
    """
    newest: dict[bytes, tuple[int, bytes]] = {}
    for key, value in emitted:
        if value:
            revision = _REVISED.decode(value).revision
            if key not in newest or newest[key][0] < revision:
                newest[key] = revision, value
    if not newest or not isinstance(processor, RatingEngine):
        return []
    state, outputs = processor.state, []
    biller, table = Biller(state), state.lines
    for line in range(table.size):
        key = biller.line_id(line).encode()
        revision, value = newest.get(key, (-1, b""))
        if revision < int(table["revision"][line]):
            continue
        said, own = _ITEM.decode(value), line_item(state, biller, line)
        ahead = said.through is not None and (own.through is None or own.through.offset < said.through.offset)
        if ahead or said == own:
            continue
        table["revision"][line] = revision + 1
        table["written"][line] = 1
        risen = msgspec.structs.replace(own, revision=revision + 1)
        outputs.append(Output(topics.LINE_ITEMS, key, msgspec.json.encode(risen)))
    return outputs
