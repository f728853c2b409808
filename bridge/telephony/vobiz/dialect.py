"""The dialect of Vobiz' audio streams: Plivo's messages, and a word that ends the stream.

The carrier sends no ``stop``.
"""

from dataclasses import replace

from bridge.telephony.plivo.dialect import PLIVO_DIALECT

__all__ = ["VOBIZ_DIALECT"]

VOBIZ_DIALECT = replace(
    PLIVO_DIALECT, name="vobiz", title="Vobiz", hang_up='{"event":"stop","streamId":<stream>}', send_key=""
)
