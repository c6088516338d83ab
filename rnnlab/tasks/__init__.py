"""Synthetic tasks as pure functions of a key, each with its exact baseline."""
