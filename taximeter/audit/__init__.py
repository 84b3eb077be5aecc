"""The audit: what was billed, computed again from the archive by another road than the engine's."""
