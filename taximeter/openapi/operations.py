"""Every operation that some process of ours serves, in the order of the page."""

from typing import Final

from taximeter.openapi.catalogue import CATALOGUE
from taximeter.openapi.door import DOOR
from taximeter.openapi.keys import KEYS
from taximeter.openapi.operation import Operation
from taximeter.openapi.queries import QUERIES
from taximeter.openapi.resending import RESENDING
from taximeter.openapi.retell import RETELL
from taximeter.openapi.server import SERVER

OPERATIONS: Final[tuple[Operation, ...]] = (*DOOR, *QUERIES, *RETELL, *RESENDING, *CATALOGUE, *KEYS, *SERVER)
