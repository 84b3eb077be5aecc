"""The cases whose figures no parameter of the contract reaches: what it says in their place, and why."""

from typing import Any, NamedTuple


class Differs(NamedTuple):
    """`ours`: the figures of the contract, in the form of the case's `expected`."""

    ours: dict[str, Any]
    why: str


EXCEPTIONS = {
    "om-vol-mid": Differs(
        {"amount": "150"},
        "OpenMeter leaves prices by volume out of invoices inside a period. An invoice inside a period here bills "
        "what every charge has come to so far, and a later one gives back what a cheaper tier takes off.",
    ),
    "cg-cd-drift": Differs(
        {"amount": "0.3"},
        "Three minutes at 0.1 are 0.3. CGRateS rounds the price of each single second, which adds up to 0.3001; the "
        "source says itself that 0.3 is meant.",
    ),
    "lago-wallet-kinds": Differs(
        {
            "amount": "5133",
            "drawn": {
                "priority": "1000",
                "priority_charge": "1000",
                "priority_subscription": "1000",
                "normal": "1000",
                "charge": "133",
                "subscription": "1000",
            },
            "due": "17",
        },
        "Lago lets a wallet for everything pay the fees one after the other, the subscription's first. A grant here is "
        "spread over all the lines that it pays for, in proportion, so that the grants for one kind of charge find "
        "another rest.",
    ),
    "lago-ongoing-neg": Differs(
        {"amount": "200", "drawn": {"b": "50", "a": "150"}},
        "Lago projects a balance below nought on the last wallet. A grant is money that was paid before: it pays what "
        "it holds, and the 50 that are left are due on the invoice.",
    ),
    "lago-ongoing-threshold-mid": Differs(
        {"amount": "150", "drawn": {"w1": "50", "w2": "50", "w3": "50"}},
        "Lago lets a wallet that tops itself up take everything, below nought too, before the next one. A grant is "
        "never below nought, so the third one pays as well and 50 are due.",
    ),
    "om-grant-late-active": Differs(
        {"balances": {"g1": "75"}},
        "OpenMeter carries usage that nothing covered into a grant that takes force later. An invoice is paid by the "
        "grants that are in force when it is made, and what is due on it stays due.",
    ),
    "om-grant-reset-2": Differs(
        {"balances": {"g1": "0"}},
        "OpenMeter fills a grant up to `min_rollover` at a reset, and takes from it what was uncovered before. A "
        "grant's amount is what was paid: what rolls over is at most what is left of it, here nothing.",
    ),
}
