"""`taximeter repair`: finds what is damaged, and mends what the source can mend without changing any result."""
