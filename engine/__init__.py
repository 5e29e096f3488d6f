"""The workflow engine: from a composed job to a sealed archive. Knows no benchmark."""
