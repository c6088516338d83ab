"""Fixed points and limit cycles: how they are searched for, and their stability."""
