"""Cost and usage in the columns of the FinOps FOCUS specification, version 1.2: see docs/focus.md."""
