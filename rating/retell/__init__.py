"""One customer's kept inputs through the real engine again, in memory: what a bill would be, was, and may become."""
