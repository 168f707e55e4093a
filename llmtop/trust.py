"""Whose certificates are believed, by all that speaks TLS here."""

from __future__ import annotations

import ssl
from functools import cache

import certifi


@cache
def trusted() -> ssl.SSLContext:
    """The authorities of this system, or those that SSL_CERT_FILE or SSL_CERT_DIR names instead,
    and those that Mozilla lists. One for all connections: it takes 20 ms to make."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
