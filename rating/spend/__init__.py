"""What the engine's outputs come to, for those who ask: a store of its records, a view that feeds it, and queries."""
