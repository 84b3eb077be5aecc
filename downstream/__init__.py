"""The systems behind the engine: one package each, joined by topics alone. Each can be taken out."""
