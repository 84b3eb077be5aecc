"""The published language of Taximeter: what other programs may rely on. Frozen types and pure codecs; no I/O."""
