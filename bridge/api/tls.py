"""The certificate that HTTPS is served with, which can be replaced while connections are open."""

import ssl
from typing import Any

from bridge.errors import ConfigError

__all__ = ["ServedCertificate", "new_tls_context"]


def new_tls_context(cert: str, key: str) -> ssl.SSLContext:
    """Makes the context that TLS is served with; raises ``ConfigError``.

    It reads files, so it is not for the event loop once that serves.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is an OSError
        reason = error.strerror or getattr(error, "reason", None) or error
        raise ConfigError(
            f"tls_cert: the certificate {cert} and its key {key} cannot be used: {reason}", param="tls_cert"
        ) from None
    return context


class ServedCertificate:
    """A context for the server's whole life, whose connections get the newest certificate.

    A handshake begins with ``context``, and goes on with the certificate that ``use`` was told last. It is handed over
    whole, because certificate and key belong to one context. To change a context's own certificate takes two steps.
    Between them, or after a failure of the second one, the context has no certificate that fits.
    """

    def __init__(self, first: ssl.SSLContext) -> None:
        self.context = first
        self._now = first
        first.sni_callback = self._choose

    def use(self, context: ssl.SSLContext) -> None:
        """Gives this context's certificate to handshakes that begin from now on."""
        self._now = context

    def _choose(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        """Chooses the certificate in each handshake, whether the client names a server or not."""
        if self._now is not context:
            connection.context = self._now
