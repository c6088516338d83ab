"""Studies: what a command runs. Settings and the store answer without JAX, so nothing is imported here."""
