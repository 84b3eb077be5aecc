"""How a processor is run: its protocol, the journal and its rule, snapshots, and the hosts that keep both."""
