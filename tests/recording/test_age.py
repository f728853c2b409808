"""Encryption of recordings, read by rage, the other implementation of the format."""

import io

import pyrage
import pytest

from bridge.recording.age import AgeWriter, read_recipient

PIECE = 64 * 1024


def encrypted(data: bytes, *identities: pyrage.x25519.Identity, step: int = 7_777) -> bytes:
    """``data``, written in steps."""
    file = io.BytesIO()
    writer = AgeWriter(file, [read_recipient(str(identity.to_public())) for identity in identities])
    for at in range(0, len(data), step):
        writer.write(data[at : at + step])
    writer.end()
    return file.getvalue()


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 5])
def test_each_recipient_reads_all(size: int) -> None:
    """Whatever the length is to that of a piece, and with each of several keys alone."""
    data = (b"sound and words " * (size // 16 + 1))[:size]
    identities = [pyrage.x25519.Identity.generate() for _ in range(2)]
    whole = encrypted(data, *identities)
    for identity in identities:
        assert pyrage.decrypt(whole, [identity]) == data


def test_nobody_else_reads_anything() -> None:
    """Another key opens nothing, what was said is not in the file, and two files of the same are not alike."""
    identity = pyrage.x25519.Identity.generate()
    data = b"my card number is 4929" * 100
    whole = encrypted(data, identity)
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(whole, [pyrage.x25519.Identity.generate()])
    assert b"4929" not in whole
    assert whole[:22] == encrypted(data, identity)[:22] == b"age-encryption.org/v1\n"
    assert whole[-100:] != encrypted(data, identity)[-100:]


def test_what_was_changed_or_cut_is_noticed() -> None:
    """A bit, a piece that is missing at the end, and a header that was exchanged."""
    identity = pyrage.x25519.Identity.generate()
    whole = encrypted(bytes(2 * PIECE + 10), identity)
    other = encrypted(bytes(10), identity)
    flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    for wrong in (flipped, whole[: -10 - 16], other[:150] + whole[150:]):
        with pytest.raises(pyrage.DecryptError):
            pyrage.decrypt(wrong, [identity])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("age1" + "q" * 58, "checksum"),
        ("AGE-SECRET-KEY-1QQQQ", "age-keygen"),
        ("ssh-ed25519 AAAA", "age-keygen"),
        ("age1", "checksum"),
        ("", "age-keygen"),
    ],
)
def test_a_recipient_that_is_none(text: str, complaint: str) -> None:
    """A secret key, a key of another kind, and one that was misspelled are told."""
    with pytest.raises(ValueError, match=complaint):
        read_recipient(text)


def test_a_letter_that_is_wrong() -> None:
    """Any single one is found by the checksum."""
    text = str(pyrage.x25519.Identity.generate().to_public())
    for at in range(4, len(text)):
        wrong = text[:at] + ("q" if text[at] != "q" else "p") + text[at + 1 :]
        with pytest.raises(ValueError, match="checksum"):
            read_recipient(wrong)
