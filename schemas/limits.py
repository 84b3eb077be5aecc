"""Every bound in one place. Each is tried in the tests at the limit and one above it."""

from typing import Final

ID_LENGTH_MAX: Final = 128
"""Characters in an identifier of a catalogue document or a customer."""

EVENT_TEXT_LENGTH_MAX: Final = 512
"""Characters in an event's `id`, `source`, `type` or `subject`."""

EVENT_BYTES_MAX: Final = 256 * 1024
"""Bytes of one event's `data`, as JSON text."""

EVENT_DEPTH_MAX: Final = 32
"""Nesting of an event's `data`."""

EVENT_FIELDS_MAX: Final = 4096
"""Names in an event's `data`, those of nested objects included."""

EXTENSIONS_MAX: Final = 32
"""Extension attributes on one event."""

EXTENSIONS_BYTES_MAX: Final = 64 * 1024
"""Bytes of one event's extension attributes together, as JSON text."""

REJECTED_EVENT_BYTES_MAX: Final = 256 * 1024
"""Bytes of an event that its rejection still shows whole; of a longer one it shows the beginning."""

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of one request, after decompression."""

ADDRESS_BYTES_MAX: Final = 16 * 1024
"""Bytes of a request's path and parameters."""

HEADER_BYTES_MAX: Final = 128 * 1024
"""Bytes of one request's address and headers together. An event in binary mode has its extension attributes there."""

HEADERS_MAX: Final = 128
"""Headers of one request."""

BODIES_BYTES_MAX: Final = 256 * 1024 * 1024
"""Bytes of all requests' bodies that one process reads and works on at once, where no option says otherwise."""

BATCH_EVENTS_MAX: Final = 100_000
"""Events in one request. Shippers bound batches by bytes alone (Vector by 10 MB), and drop one that is refused."""

PACK_EVENTS_MAX: Final = 2_000
"""Events in one packed batch."""

PACK_BYTES_MAX: Final = 1_000_000
"""Bytes of one packed batch: Kafka's default message limit is 1 MiB (broker setting `message.max.bytes`)."""

DOCUMENT_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one catalogue document in a request."""

CATALOGUE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of a whole catalogue in a request."""

YAML_BYTES_MAX: Final = 1024 * 1024
"""Bytes of a request's YAML, which is slow to read. JSON is not."""

CATALOGUE_VALUES_MAX: Final = 5_000_000
"""Keys and values in a catalogue's text: YAML's aliases can make much out of little."""

TENANTS_MAX: Final = 10_000
"""Tenants with documents: one more cannot file its first."""

DOCUMENT_VERSIONS_MAX: Final = 1_000
"""Versions of one document that can still be asked for: of more the latest."""

SIMULATED_EVENTS_MAX: Final = 10_000
"""Events in one simulation over HTTP."""

METERS_MAX: Final = 1_000
CHARGES_MAX: Final = 500
"""Charges in one price book."""

TIERS_MAX: Final = 100
ZERO_PACKAGES_MAX: Final = 1_000_000
"""Packages that nought usage may be billed."""

FREE_EVENTS_MAX: Final = 10**12
"""Free events of one percentage price."""

CROSSED_LEVELS_MAX: Final = 1_000
"""Alerts that one event (or tick) makes for one repeating threshold: of more levels crossed at once the highest."""

CELLS_MAX: Final = 1_000
"""Cells in one matrix price."""

WINDOWS_MAX: Final = 200
"""Windows in one schedule price."""

PRICE_DEPTH_MAX: Final = 4
"""Prices around a price, one inside the other (a matrix in a schedule)."""

LEAVES_MAX: Final = 4_000
"""Totals of their own that one price keeps apart: all its cells and windows, whatever they stand in."""

COUPONS_MAX: Final = 100
"""Coupons of one customer."""

CREDIT_GRANTS_MAX: Final = 1_000
"""Credit grants of one customer."""

TAXES_MAX: Final = 16
"""Taxes of one customer or charge."""

BUDGET_ALERTS_MAX: Final = 100
"""Shares of one budget that make an alert."""

DIMENSIONS_MAX: Final = 16
PATHS_MAX: Final = 256
"""Different paths into `data` over all meters."""

EXPRESSION_LENGTH_MAX: Final = 1_000
"""Characters in an expression."""

EXPRESSION_DEPTH_MAX: Final = 32
"""Nesting of an expression: brackets, functions and signs inside each other."""

TIME_MIN_YEAR: Final = 1970
TIME_MAX_YEAR: Final = 9998
"""Event times outside these years are refused."""

LIVE_STREAMS_MAX: Final = 1_000
"""Streams of live events that one server holds open."""
