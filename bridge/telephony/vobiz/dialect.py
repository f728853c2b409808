"""Vobiz' audio streams: Plivo's messages, and a word that ends the stream. There is no ``stop`` from the carrier."""

from dataclasses import replace

from bridge.telephony.plivo.dialect import PLIVO_DIALECT

__all__ = ["VOBIZ_DIALECT"]

VOBIZ_DIALECT = replace(
    PLIVO_DIALECT, name="vobiz", title="Vobiz", hang_up='{"event":"stop","streamId":<stream>}', send_key=""
)
