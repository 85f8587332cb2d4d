"""Certificates from an ACME authority, kept where all replicas find them.

Pure: :mod:`.certificate` (values), :mod:`.wanted` (which certificates routers want), :mod:`.decide` (what to do next),
:mod:`.sealing` (encryption), :mod:`.records` (what is kept, as octets). I/O: the stores :mod:`.file_store` and
:mod:`.swarm_store`, the authority :mod:`.authority`, DNS records :mod:`.dns`. :mod:`.service` brings them together.
"""
