"""Web origins, as browsers write them."""

import re

__all__ = ["PORTS", "normal_origin"]

PORTS = {"http": 80, "https": 443}
"""The port of each scheme, if the origin names none."""

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)


def normal_origin(origin: str) -> str:
    """Returns a web origin as browsers write it: in lower case, without the port of its scheme (RFC 6454 section 6.2).

    Empty if it is none: ``null``, or anything more or less than a scheme, a host and perhaps a port.
    """
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return ""
    scheme, host, port = match["scheme"].lower(), match["host"].lower(), match["port"]
    return f"{scheme}://{host}" if port is None or PORTS.get(scheme) == int(port) else f"{scheme}://{host}:{int(port)}"
