"""The page of a job or a sweep: one HTML file that needs nothing else. Pure."""
