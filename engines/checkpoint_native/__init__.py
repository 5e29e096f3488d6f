"""Checkpoints: what the ranks of a training job of a language model write, and read back."""
