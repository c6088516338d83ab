"""The fused engine: its layouts, its forward pass, and its backward pass.

Read ``engines/scan.py`` first: it computes the same in 24 lines, and tests bind this package to it.
Then ``engine.py`` (the derivative as a whole), ``forward.py``, ``backward.py``, and ``layouts.py``
last.
"""
