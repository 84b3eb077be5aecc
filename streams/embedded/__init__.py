"""One process, no broker: the log in a SQLite file, and the host that runs a processor on it, a thread a partition."""
