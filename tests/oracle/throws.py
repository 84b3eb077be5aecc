"""How many cases a law is thrown, one rule for all of them."""

import os

from hypothesis import HealthCheck, Phase, settings


def throws(examples: int) -> settings:
    """So many, the same ones every time; `TAXIMETER_EXAMPLES=5000` throws that many, each time anew, and
    `TAXIMETER_SHRINK=no` does not look for a smaller case where one fails."""
    return settings(
        max_examples=int(os.environ.get("TAXIMETER_EXAMPLES", examples)),
        derandomize="TAXIMETER_EXAMPLES" not in os.environ,
        deadline=None,
        phases=list(Phase) if os.environ.get("TAXIMETER_SHRINK") != "no" else [Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
