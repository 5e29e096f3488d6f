"""Starts one process of a foreign program, stays with it, and leaves nothing of it behind."""
