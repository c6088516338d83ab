"""Static figures of a run, by matplotlib."""
