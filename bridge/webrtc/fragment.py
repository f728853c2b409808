"""SDP fragments: what a peer and the bridge tell each other about ICE alone, after offer and answer (RFC 8840).

A fragment comes from a stranger, so it is bounded and read once from its beginning to its end. Candidates are checked
and then left aside: an ICE-lite agent learns where its peer is from the peer's own checks (RFC 8445 section 2.5), and
so never sends a packet to an address that a stranger wrote down.
"""

import re
from dataclasses import dataclass

from bridge.errors import BadRequest
from bridge.webrtc.sdp import AnswerParameters, Offer, candidate_lines

__all__ = ["MAX_FRAGMENT_BYTES", "IceFragment", "parse_fragment", "write_fragment"]

MAX_FRAGMENT_BYTES = 32 * 1024
_MAX_LINES = 512
_MAX_SECTIONS = 16
_ICE_CHARS = re.compile(r"[!-~]{4,256}\Z")  # as in offers
_LINE = re.compile(r"[a-z]=")
_FOUNDATION = re.compile(r"[!-~]{1,32}\Z")  # RFC 8839 section 5.1 has letters, digits, + and /
_LEAST_WORDS, _MAX_WORDS = 8, 64
_NUMBERS = {1: ("component", 256), 3: ("priority", 2**32 - 1), 5: ("port", 65_535)}
_TRANSPORTS = ("udp", "tcp")


@dataclass(frozen=True, slots=True)
class IceFragment:
    """What a peer's fragment says."""

    credentials: tuple[tuple[str, str], ...]
    """The user fragment and password of each section, each pair once; empty if the fragment names no credentials."""
    candidates: tuple[str, ...]
    """The candidates whose transport is known here; others are discarded (RFC 9725 section 4.3.2)."""
    is_end: bool
    """Whether the peer has no more candidates (``a=end-of-candidates``)."""


def parse_fragment(body: bytes) -> IceFragment:
    """Returns the fragment in an HTTP body; raises ``BadRequest`` naming the line that is wrong."""
    if len(body) > MAX_FRAGMENT_BYTES:
        raise _refusal(f"The fragment has {len(body)} bytes, over the limit of {MAX_FRAGMENT_BYTES}.")
    try:
        lines = body.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise _refusal("The fragment is not UTF-8 text.") from None
    if len(lines) > _MAX_LINES:
        raise _refusal(f"The fragment has {len(lines)} lines, over the limit of {_MAX_LINES}.")
    sections: list[dict[str, str]] = [{}]
    candidates: list[str] = []
    is_end = False
    for line in filter(None, map(str.strip, lines)):
        if not _LINE.match(line):
            raise _refusal("A line of the fragment is not an SDP line such as a=candidate:….")
        if line.startswith("m="):
            if len(sections) > _MAX_SECTIONS:
                raise _refusal(f"The fragment has more sections than the limit of {_MAX_SECTIONS}.", param="m")
            sections.append({})
            continue
        name, _, value = line[2:].partition(":") if line.startswith("a=") else ("", "", "")
        if name in ("ice-ufrag", "ice-pwd"):
            if not _ICE_CHARS.match(value):
                raise _refusal(f"The fragment has an unusable a={name}.", param=name)
            sections[-1].setdefault(name, value)
        elif name == "candidate":
            if value and _is_usable(value):  # some pages say by an empty one that there are no more
                candidates.append(value)
        elif name == "end-of-candidates":
            is_end = True
    return IceFragment(_pairs(sections), tuple(candidates), is_end)


def write_fragment(offer: Offer, ours: AnswerParameters) -> str:
    """Returns our fragment after a restart: the credentials and all candidates, in the first section of the bundle."""
    media = offer.accepted[0]
    mid = media.value("mid")
    mids = [name for section in offer.accepted if (name := section.value("mid")) in offer.bundle]
    lines = ["a=ice-lite"]
    if mids:
        lines.append(f"a=group:BUNDLE {' '.join(map(str, mids))}")
    lines.append(f"m={media.kind} 9 {media.protocol} {' '.join(media.formats)}")
    if mid:
        lines.append(f"a=mid:{mid}")
    lines += [f"a=ice-ufrag:{ours.ice_ufrag}", f"a=ice-pwd:{ours.ice_pwd}", *candidate_lines(ours)]
    return "\r\n".join([*lines, "a=end-of-candidates"]) + "\r\n"


def _pairs(sections: list[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    """Returns the pairs of all sections; what stands in front holds for every section that does not have its own."""
    found: dict[tuple[str, str], None] = {}
    for section in (*sections[1:], sections[0]):
        said = sections[0] | section
        if len(said) == 1:
            (only,) = said
            raise _refusal(f"The fragment has only a={only}; ice-ufrag and ice-pwd must come together.", param=only)
        if said:
            found[said["ice-ufrag"], said["ice-pwd"]] = None
    return tuple(found)


def _is_usable(value: str) -> bool:
    """Whether a candidate's transport is known here; raises ``BadRequest`` for what is no candidate."""
    words = value.split(" ")
    if not _LEAST_WORDS <= len(words) <= _MAX_WORDS or words[6] != "typ" or not _FOUNDATION.match(words[0]):
        raise _refusal("A candidate does not have the form of RFC 8839 section 5.1.", param="candidate")
    for at, (name, most) in _NUMBERS.items():
        word = words[at]
        if not (word.isascii() and word.isdecimal() and len(word) <= 10 and int(word) <= most):
            raise _refusal(f"The {name} of a candidate must be a number from 0 to {most}.", param="candidate")
    return words[2].lower() in _TRANSPORTS


def _refusal(message: str, *, param: str = "body") -> BadRequest:
    return BadRequest(message, code="invalid_fragment", param=param)
