"""An index of inverted lists of this project's own, read past the page cache."""
