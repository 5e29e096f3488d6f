"""Preflight's own ranks: they show that a launch works and that all hosts see one data_dir."""
