"""HTTP: messages as values and functions, and the connections to clients and servers."""
