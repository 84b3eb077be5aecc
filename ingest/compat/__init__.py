"""Doors that speak other systems' dialects: their requests become our events and documents, our answers theirs."""
