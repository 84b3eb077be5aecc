"""The face of Taximeter: command line, wiring and demo."""
