"""Dynamic configuration: routers, services and middlewares as frozen values, and what is decided from them.

Everything here is pure: no Twisted, no I/O, no clock.
"""
