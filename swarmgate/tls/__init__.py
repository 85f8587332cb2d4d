"""Certificates, and which of them, with which options, a TLS client gets."""
