"""A package, so that nothing that an installed package calls `tests` is taken for it."""
