"""Judges the text of a setting as an address: whether it is one, and who can reach it."""

from ipaddress import ip_address, ip_network

__all__ = ["can_be_sent_to", "is_address", "is_loopback", "is_network", "is_unspecified"]


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach ``host``.

    Any name but ``localhost`` counts as reachable for others.
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(text: str) -> bool:
    """Returns whether ``text`` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_network(text: str) -> bool:
    """Returns whether ``text`` is an IP address or network, such as 10.0.0.0/8."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def can_be_sent_to(address: str) -> bool:
    """Returns whether others can send to the address.

    An interface's name after ``%`` is known on this machine alone.
    """
    parsed = ip_address(address)
    return not parsed.is_unspecified and not parsed.is_multicast and "%" not in address


def is_unspecified(host: str) -> bool:
    """Returns whether the address stands for all addresses of a machine, so that others could not connect to it."""
    return is_address(host) and ip_address(host).is_unspecified
