"""The keys of DLIO's summary.json, in their order."""

from __future__ import annotations

DLIO_KEYS = [
    "start", "num_accelerators", "num_hosts", "hostname", "metric", "num_files_train",
    "num_files_eval", "num_samples_per_file", "host_cpu_count", "host_processor_name",
    "potential_caching", "host_cpuinfo", "host_meminfo", "host_memory_GB",
    "data_size_per_host_GB", "epochs", "end",
]  # fmt: skip
