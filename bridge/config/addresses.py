"""What a setting's text says of an address: whether it is one, and who can reach it."""

from ipaddress import ip_address, ip_network

__all__ = ["can_be_sent_to", "is_address", "is_loopback", "is_network", "is_unspecified"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; any name but ``localhost`` is taken for reachable."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_network(text: str) -> bool:
    """Whether ``text`` is an IP address or network, such as 10.0.0.0/8."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def can_be_sent_to(address: str) -> bool:
    """Whether others can send to it; an interface's name behind ``%`` means something on this machine alone."""
    parsed = ip_address(address)
    return not parsed.is_unspecified and not parsed.is_multicast and "%" not in address


def is_unspecified(host: str) -> bool:
    """Whether it stands for all addresses of a machine, and so for none that others could connect to."""
    return is_address(host) and ip_address(host).is_unspecified
