"""Training: datasets, and the input pipelines that read them for simulated accelerators."""
