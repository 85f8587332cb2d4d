"""HTTP/2 (RFC 9113), to clients and to servers: streams that are clients and servers of exchanges."""
