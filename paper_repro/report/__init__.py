"""The report as a page and in the terminal."""
