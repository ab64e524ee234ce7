"""Text: where it comes from, and its tokens."""
