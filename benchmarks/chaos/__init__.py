"""Real faults on real processes, and the proof that nothing was lost, doubled or wrong. See `README.md`."""
