"""Why a page did not come."""

from __future__ import annotations

import ssl

from profiler.errors import StreamError


class FetchError(StreamError):
    """Nothing came, or not all of it."""


def fetch_error(cause: Exception, connecting: bool = False) -> FetchError:
    """In a few words, and what it may be."""
    if isinstance(cause, TimeoutError):
        hint = "something is there, and its answer does not come"
        return FetchError("no answer in time", hint)
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = "its certificate is not trusted here; SSL_CERT_FILE names one that is"
        return FetchError("TLS failed", hint)
    if isinstance(cause, ssl.SSLError):
        return FetchError("TLS failed", "it does not speak TLS there; try http://")
    if isinstance(cause, ConnectionRefusedError):
        return FetchError("no connection", "nothing listens there")
    if connecting:
        return FetchError("no connection", "the name is not known, or the way there is closed")
    what = f"connection lost ({type(cause).__name__})"
    return FetchError(what, "it does not speak HTTP there; try https://")
