"""Identifiers as the Realtime protocol writes them: a prefix that tells the kind, then random letters and digits."""

import secrets
import string

__all__ = ["new_id"]

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 22  # 62**22 is 2**131: more than 128 random bits


def new_id(prefix: str) -> str:
    """Returns a new id such as ``rtc_…``, ``sess_…``, ``item_…``, with more than 128 random bits."""
    number = int.from_bytes(secrets.token_bytes(17), "big")
    letters = []
    for _ in range(_LENGTH):
        number, index = divmod(number, 62)
        letters.append(_ALPHABET[index])
    return f"{prefix}_{''.join(letters)}"
