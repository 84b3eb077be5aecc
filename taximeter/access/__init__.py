"""Who may do what, and how much at once: API keys, the layer in front of every route, rates and slow clients."""
