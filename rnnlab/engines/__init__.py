"""Ways to run a cell over a sequence; one a file, every one bound to ``scan`` by tests."""
