"""The I/O that all native engines share: operations, executors, stamps, histograms, files."""
