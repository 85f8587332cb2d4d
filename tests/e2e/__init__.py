"""The gate as its users have it: a process of its own, seen through its sockets alone.

Clients and backends here are asyncio's, and read with :mod:`tests.wire`: they share no code with the gate. All of it
happens on loopback. Waiting has a deadline and ends with what is waited for; nobody sleeps.
"""
