"""Fixed points and limit cycles: the search for them, and their stability."""
