"""Ways to run a cell over a sequence; one per file, every one bound to ``scan`` by tests."""
