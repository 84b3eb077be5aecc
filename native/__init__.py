"""The compiled half of the hot paths: plain C, built once at set-up, called by address. Optional in every process.

Owns the build of the library (`native.build`) and the way in (`native.library`); knows nothing of what it computes.
Each function of it has a twin in Python, which stands where the function is used, does the same, and is what runs
where the library was not built. The laws of the tests hold the twins equal.
"""
