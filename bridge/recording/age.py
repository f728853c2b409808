"""Encrypts recordings in the age format, version 1 (https://age-encryption.org/v1), for X25519 recipients.

Data is encrypted at once, piece by piece, so that none of it ever reaches the disk in plain form. The recorder needs
only public keys: nobody who takes the machine can read what is on it. ``age`` and ``rage`` decrypt it.

A file has a key of its own, which its header holds once for each recipient. Pieces of 64 KiB follow. Each is sealed
with its number and whether it is the last one, so that a missing piece is noticed.
"""

import base64
import hmac
import os
from collections.abc import Sequence
from typing import IO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["AgeWriter", "Recipient", "read_recipient"]

Recipient = bytes
"""A public key of X25519."""

_PIECE_BYTES = 64 * 1024
_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # the letters of Bech32, BIP 173
_CHECKSUM_LETTERS = 6
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_KEY_BYTES = 32


def read_recipient(text: str) -> Recipient:
    """Returns the public key of ``age1…``, the text that ``age-keygen`` writes.

    Raises ``ValueError`` with what is wrong.
    """
    prefix, separator, letters = text.strip().lower().rpartition("1")
    if prefix != "age" or not separator or set(letters) - set(_LETTERS):
        raise ValueError("a recipient must be a public key as age-keygen prints it, age1…")
    values = [_LETTERS.index(letter) for letter in letters]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    if _checksum([*expanded, *values]) != 1:
        raise ValueError("the recipient has a wrong letter: its checksum does not match")
    number, size = 0, 0
    for value in values[:-_CHECKSUM_LETTERS]:
        number, size = number << 5 | value, size + 5
    if size // 8 != _KEY_BYTES or number & ((1 << size % 8) - 1):
        raise ValueError("the recipient is not an X25519 public key")
    return (number >> size % 8).to_bytes(_KEY_BYTES, "big")


class AgeWriter:
    """Encrypts for ``recipients`` what is written to it, and writes that into ``file``."""

    def __init__(self, file: IO[bytes], recipients: Sequence[Recipient]) -> None:
        self._file = file
        self._rest = bytearray()
        self._number = 0
        key, nonce = os.urandom(16), os.urandom(16)
        file.write(_header(key, recipients) + nonce)
        self._cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))

    def write(self, data: bytes) -> None:
        """Takes more data. What does not fill a piece waits in memory."""
        rest = self._rest
        rest += data
        while len(rest) > _PIECE_BYTES:  # a piece that is just full may be the last one
            self._seal(bytes(rest[:_PIECE_BYTES]), is_last=False)
            del rest[:_PIECE_BYTES]

    def end(self) -> None:
        """Writes the last piece."""
        self._seal(bytes(self._rest), is_last=True)

    def _seal(self, piece: bytes, *, is_last: bool) -> None:
        nonce = self._number.to_bytes(11, "big") + bytes([is_last])
        self._number += 1
        self._file.write(self._cipher.encrypt(nonce, piece, None))


def _header(key: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Returns the header: the key for each recipient, and a code that only this key makes."""
    head = b"age-encryption.org/v1\n" + b"".join(_stanza(key, recipient) for recipient in recipients) + b"---"
    code = hmac.digest(_derived(key, b"", b"header"), head, "sha256")
    return head + b" " + _base64(code) + b"\n"


def _stanza(key: bytes, recipient: Recipient) -> bytes:
    """Returns the file's key, encrypted for one recipient."""
    ours = X25519PrivateKey.generate()
    share = ours.public_key().public_bytes_raw()
    shared = ours.exchange(X25519PublicKey.from_public_bytes(recipient))
    wrapping = _derived(shared, share + recipient, b"age-encryption.org/v1/X25519")
    wrapped = ChaCha20Poly1305(wrapping).encrypt(bytes(12), key, None)
    return b"-> X25519 " + _base64(share) + b"\n" + _base64(wrapped) + b"\n"


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), _KEY_BYTES, salt, purpose).derive(secret)


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _checksum(values: Sequence[int]) -> int:
    """Returns the checksum of BIP 173: 1 if nothing was misspelled."""
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for at, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> at & 1 else 0
    return checksum
