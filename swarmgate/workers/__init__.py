"""Several processes that serve, and one, their parent, that knows what they serve."""
