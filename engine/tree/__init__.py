"""Trees of results as submitters hand them in: found, and judged by what their files tell."""
