"""The programs that do the I/O. They know no Hydra and no YAML: the job reaches them resolved."""
