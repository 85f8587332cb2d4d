"""Parsers fed with octets that a fuzzer finds, and what must hold whatever those are."""
