"""Studies, which the commands run.

Nothing is imported here, so that settings and the store can be used without waiting for JAX.
"""
