"""The engine: deduplicate, aggregate, rate and invoice, by batch and without side effects."""
