"""Offers read and answers written: the few lines of SDP that a call is made of (RFC 8866, RFC 8829, RFC 8839).

Read by hand because an offer comes from a stranger: of everything in it a dozen attributes matter, each is checked
here, and what is wrong is named. Candidates are not even read: an ICE-lite agent learns where its peer is from the
peer's own checks (RFC 8445 section 2.5), and so never sends a packet to an address that a stranger wrote down.
"""

import re
from dataclasses import dataclass, field

from bridge.errors import BadOffer
from bridge.media.extensions import AUDIO_LEVEL_URI, MAX_ID, MAX_MID_BYTES, MID_URI

__all__ = [
    "CNAME",
    "MAX_MESSAGE_BYTES",
    "MAX_SDP_BYTES",
    "OFFERED_OPUS",
    "AnswerParameters",
    "Fingerprint",
    "Media",
    "Offer",
    "OfferParameters",
    "parse_offer",
    "parse_remote",
    "write_answer",
    "write_offer",
]

MAX_SDP_BYTES = 128 * 1024
MAX_MESSAGE_BYTES = 262_144
"""What we announce as ``a=max-message-size``; Chromium and aiortc announce the same."""
_DEFAULT_MAX_MESSAGE_BYTES = 65_536  # RFC 8841 section 6.1
CNAME = "bridge"
"""What our streams are called, in SDP and RTCP alike."""
OFFERED_OPUS = 111
"""The payload type of Opus in our own offers; the one that Chromium uses."""
_MAX_MEDIA = 16
_SCTP_PORT = 5000
_DIGEST_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}  # RFC 8122 section 5; SHA-1 no longer counts
_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]{4,256}\Z")  # RFC 8839 section 5.4
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}\Z")  # RFC 8866 section 9: token
_MEDIA_LINE = re.compile(
    r"m=(?:(?:audio|video) [0-9]{1,5} [A-Z/]+(?: [0-9]{1,3})+|[a-z]+ [0-9]{1,5} [A-Z/]+(?: [\w.-]+)+)\s*\Z"
)
_EXTENSIONS = (AUDIO_LEVEL_URI, MID_URI)
_REVERSE = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The hash of a DTLS certificate, hexadecimal with colons (RFC 8122 section 5)."""

    algorithm: str
    value: str


@dataclass(slots=True)
class Media:
    """One ``m=`` section: its line's words and its attributes in order."""

    kind: str
    port: str
    protocol: str
    formats: list[str]
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """The first value of attribute ``name``; None where it is absent."""
        return next((value for key, value in self.attributes if key == name), None)

    def values(self, name: str) -> list[str]:
        """All values of attribute ``name``."""
        return [value for key, value in self.attributes if key == name]

    @property
    def direction(self) -> str:
        """``sendrecv`` unless the section says otherwise (RFC 8866 section 6.7)."""
        return next((key for key, _ in self.attributes if key in _REVERSE), "sendrecv")

    @property
    def is_rejected(self) -> bool:
        """Port 0 outside of a bundle means "not this one" (RFC 8829 section 5.2.1)."""
        return self.port == "0" and all(key != "bundle-only" for key, _ in self.attributes)


@dataclass(frozen=True, slots=True)
class Offer:
    """What the remote description says that matters to a call."""

    media: list[Media]
    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[Fingerprint, ...]
    setup: str
    is_ice_lite: bool
    bundle: tuple[str, ...]
    """The sections that share our one transport, by mid, as the remote side grouped them."""
    audio: Media | None
    opus_payload_type: int
    red_payload_type: int | None
    """Of Opus with redundancy (RFC 2198)."""
    application: Media | None
    sctp_port: int
    max_message_bytes: int

    @property
    def candidates(self) -> list[str]:
        """The remote candidates; only an answer's are of use."""
        sections = [media for media in (self.audio, self.application) if media is not None]
        return list(dict.fromkeys(v for media in sections for k, v in media.attributes if k == "candidate"))

    @property
    def extensions(self) -> dict[str, int]:
        """The ids of those RTP header extensions that we know, by their URI (RFC 8285 section 5)."""
        found: dict[str, int] = {}
        for value in self.audio.values("extmap") if self.audio is not None else ():
            number, _, uri = value.partition(" ")
            number = number.removesuffix("/sendrecv")
            is_usable = number.isdecimal() and len(number) < 3 and 0 < int(number) <= MAX_ID
            if is_usable and uri in _EXTENSIONS and int(number) not in found.values():
                found.setdefault(uri, int(number))
        if MID_URI in found and not 0 < len(self.audio_mid) <= MAX_MID_BYTES:
            del found[MID_URI]
        return found

    @property
    def audio_mid(self) -> str:
        """The name of the audio section."""
        return (self.audio.value("mid") or "") if self.audio is not None else ""

    @property
    def asks_again(self) -> bool:
        """The remote side may ask for packets again (RFC 4585 section 4.2)."""
        wanted = (f"{self.opus_payload_type} nack", "* nack")
        return self.audio is not None and any(value in wanted for value in self.audio.values("rtcp-fb"))

    @property
    def opus_parameters(self) -> dict[str, str]:
        """What the remote side would like of our Opus (RFC 7587 section 6.1)."""
        prefix = f"{self.opus_payload_type} "
        values = self.audio.values("fmtp") if self.audio is not None else []
        line = next((value.removeprefix(prefix) for value in values if value.startswith(prefix)), "")
        pairs = (part.partition("=") for part in line.split(";"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def max_bitrate(self) -> int | None:
        """How many bits of Opus a second the remote side takes, where it says so."""
        value = self.opus_parameters.get("maxaveragebitrate", "")
        return int(value) if value.isdecimal() and len(value) < 8 else None

    @property
    def sends_audio(self) -> bool:
        """The remote side wants to be heard."""
        return self.audio is not None and self.audio.direction in ("sendrecv", "sendonly")

    @property
    def receives_audio(self) -> bool:
        """The remote side wants to hear."""
        return self.audio is not None and self.audio.direction in ("sendrecv", "recvonly")


@dataclass(frozen=True, slots=True)
class AnswerParameters:
    """What our side of the answer says."""

    ice_ufrag: str
    ice_pwd: str
    fingerprint: Fingerprint
    addresses: tuple[str, ...]
    port: int
    ssrc: int


@dataclass(frozen=True, slots=True)
class OfferParameters:
    """What our offer says, for a call that we dial; ``candidates`` as their SDP lines have them."""

    ice_ufrag: str
    ice_pwd: str
    fingerprint: Fingerprint
    candidates: tuple[str, ...]
    ssrc: int


def parse_offer(body: bytes) -> Offer:
    """The offer in an HTTP body; raises ``BadOffer`` naming what keeps a call from being made of it."""
    offer = parse_remote(body)
    if offer.setup == "passive":
        raise BadOffer("The offer says a=setup:passive; the bridge needs actpass or active.", param="setup")
    if offer.is_ice_lite:
        raise BadOffer("The offer says a=ice-lite, and so does the bridge: neither side would check.", param="ice-lite")
    return offer


def parse_remote(body: bytes) -> Offer:
    """A remote description, offer or answer; raises ``BadOffer`` naming the line that is missing or wrong."""
    if len(body) > MAX_SDP_BYTES:
        raise BadOffer(f"The SDP has {len(body)} bytes, over the limit of {MAX_SDP_BYTES}.", param="sdp")
    session, media = _sections(body)
    audio = next((m for m in media if m.kind == "audio" and not m.is_rejected and _opus(m) is not None), None)
    application = next(
        (m for m in media if m.kind == "application" and "SCTP" in m.protocol and not m.is_rejected), None
    )
    if audio is None:
        if any(m.kind == "audio" and not m.is_rejected for m in media):
            raise BadOffer("No audio section offers Opus at 48 kHz (a=rtpmap:… opus/48000/2).", param="rtpmap")
        if application is None:
            raise BadOffer("The SDP has no audio and no data channel section (m=audio, m=application).", param="m")
    carrier = next(m for m in media if m in (audio, application))
    bundle = _bundle(session, carrier)
    audio, application = (m if m is carrier or (m and m.value("mid") in bundle) else None for m in (audio, application))
    ice_ufrag, ice_pwd = _lookup(session, carrier, "ice-ufrag"), _lookup(session, carrier, "ice-pwd")
    if not ice_ufrag or not _ICE_CHARS.match(ice_ufrag):
        raise BadOffer("The SDP has no usable ICE user fragment (a=ice-ufrag).", param="ice-ufrag")
    if not ice_pwd or not _ICE_CHARS.match(ice_pwd):
        raise BadOffer("The SDP has no usable ICE password (a=ice-pwd).", param="ice-pwd")
    return Offer(
        media=media,
        ice_ufrag=ice_ufrag,
        ice_pwd=ice_pwd,
        fingerprints=_fingerprints(session, carrier),
        setup=_lookup(session, carrier, "setup") or "actpass",
        audio=audio,
        opus_payload_type=(_opus(audio) or 0) if audio else 0,
        red_payload_type=_red(audio) if audio else None,
        application=application,
        is_ice_lite=session.value("ice-lite") is not None,
        bundle=bundle,
        sctp_port=_number(application, "sctp-port", _SCTP_PORT, least=1, most=65_535),
        max_message_bytes=_number(application, "max-message-size", _DEFAULT_MAX_MESSAGE_BYTES),
    )


def write_answer(offer: Offer, ours: AnswerParameters) -> str:
    """The answer: audio and data channel accepted, every other section rejected with port 0."""
    accepted = [m for m in offer.media if m is offer.audio or m is offer.application]
    mids = [mid for m in accepted if (mid := m.value("mid")) in offer.bundle]
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-lite", "a=msid-semantic: WMS bridge"]
    if mids:
        lines.insert(4, f"a=group:BUNDLE {' '.join(map(str, mids))}")
    for media in offer.media:
        mid = media.value("mid")
        is_accepted = any(media is m for m in accepted)
        lines.append(f"m={media.kind} {9 if is_accepted else 0} {media.protocol} {_formats(offer, media, is_accepted)}")
        lines.append("c=IN IP4 0.0.0.0")
        if mid:
            lines.append(f"a=mid:{mid}")
        if not is_accepted:
            lines.append("a=inactive")
            continue
        lines += _audio_lines(offer, ours) if media is offer.audio else _application_lines()
        lines += _transport_lines(ours)
    return "\r\n".join(lines) + "\r\n"


def write_offer(ours: OfferParameters) -> str:
    """An offer of audio both ways and a data channel, as a browser would make it."""
    transport = [
        *(f"a=candidate:{candidate}" for candidate in ours.candidates),
        "a=end-of-candidates",
        f"a=ice-ufrag:{ours.ice_ufrag}",
        f"a=ice-pwd:{ours.ice_pwd}",
        f"a=fingerprint:{ours.fingerprint.algorithm} {ours.fingerprint.value}",
        "a=setup:actpass",
    ]
    audio = [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {OFFERED_OPUS}",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendrecv",
        "a=rtcp-mux",
        f"a=rtpmap:{OFFERED_OPUS} opus/48000/2",
        f"a=fmtp:{OFFERED_OPUS} minptime=10;useinbandfec=1",
        f"a=rtcp-fb:{OFFERED_OPUS} nack",
        *(f"a=extmap:{number} {uri}" for number, uri in enumerate(_EXTENSIONS, 1)),
        "a=msid:bridge audio",
        f"a=ssrc:{ours.ssrc} cname:{CNAME}",
        *transport,
    ]
    application = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:1"]
    session = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0 1", "a=msid-semantic: WMS bridge"]
    return "\r\n".join([*session, *audio, *application, *_application_lines(), *transport]) + "\r\n"


def _formats(offer: Offer, media: Media, is_accepted: bool) -> str:
    """Opus and its redundancy in the order of the offer: which of the two is sent is the peer's choice."""
    if not is_accepted or media is not offer.audio:
        return " ".join(media.formats)
    accepted = {str(offer.opus_payload_type), str(offer.red_payload_type)}
    return " ".join(dict.fromkeys(payload_type for payload_type in media.formats if payload_type in accepted))


def _audio_lines(offer: Offer, ours: AnswerParameters) -> list[str]:
    assert offer.audio is not None
    opus = offer.opus_payload_type
    lines = [
        f"a={_REVERSE[offer.audio.direction]}",
        "a=rtcp-mux",
        f"a=rtpmap:{opus} opus/48000/2",
        f"a=fmtp:{opus} minptime=10;useinbandfec=1",
        "a=ptime:20",
    ]
    if (red := offer.red_payload_type) is not None:
        lines += [f"a=rtpmap:{red} red/48000/2", f"a=fmtp:{red} {opus}/{opus}"]
    if offer.asks_again:
        lines.append(f"a=rtcp-fb:{opus} nack")
    lines += [f"a=extmap:{number} {uri}" for uri, number in offer.extensions.items()]
    if offer.receives_audio:
        lines += ["a=msid:bridge audio", f"a=ssrc:{ours.ssrc} cname:{CNAME}"]
    return lines


def _application_lines() -> list[str]:
    return [f"a=sctp-port:{_SCTP_PORT}", f"a=max-message-size:{MAX_MESSAGE_BYTES}"]


def _transport_lines(ours: AnswerParameters) -> list[str]:
    """ICE with all candidates at once, and DTLS in the passive role, so that the peer drives retransmissions."""
    lines = [
        f"a=candidate:{index} 1 udp {_priority(index)} {address} {ours.port} typ host"
        for index, address in enumerate(ours.addresses, 1)
    ]
    return [
        *lines,
        "a=end-of-candidates",
        f"a=ice-ufrag:{ours.ice_ufrag}",
        f"a=ice-pwd:{ours.ice_pwd}",
        f"a=fingerprint:{ours.fingerprint.algorithm} {ours.fingerprint.value}",
        "a=setup:passive",
    ]


def _priority(index: int) -> int:
    """RFC 8445 section 5.1.2.1 for a host candidate of component 1; earlier addresses are preferred."""
    return (126 << 24) + ((65_535 - index) << 8) + 255


def _sections(body: bytes) -> tuple[Media, list[Media]]:
    """The session's attributes and the media sections."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadOffer("The SDP is not UTF-8 text.", param="sdp") from None
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "v=0":
        raise BadOffer("The body is not SDP: it does not begin with v=0.", param="sdp")
    session = Media("session", "", "", [])
    media: list[Media] = []
    for line in lines[1:]:
        if line.startswith("m="):
            if not _MEDIA_LINE.match(line):
                raise BadOffer(f"Not a media line: {line[:80]!r}.", param="m")
            kind, port, protocol, *formats = line[2:].split()
            if "RTP/" in protocol and not all(map(_is_payload_type, formats)):
                raise BadOffer(f"Not all payload types of a media line can be: {line[:80]!r}.", param="m")
            media.append(Media(kind, port, protocol, formats))
        elif line.startswith("a="):
            name, _, value = line[2:].partition(":")
            (media[-1] if media else session).attributes.append((name.strip(), value.strip()))
    if len(media) > _MAX_MEDIA:
        raise BadOffer(f"The SDP has {len(media)} media sections, over the limit of {_MAX_MEDIA}.", param="m")
    for section in media:
        mid = section.value("mid")
        if mid is not None and not _TOKEN.match(mid):
            raise BadOffer("A media section has an unusable a=mid.", param="mid")
    return session, media


def _is_payload_type(text: str) -> bool:
    """Seven bits, and none that could be mistaken for RTCP behind the marker bit (RFC 5761 section 4)."""
    return text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) < 128 and not 72 <= int(text) <= 76


def _lookup(session: Media, media: Media, name: str) -> str | None:
    """An attribute that may stand in the section or, for all of them, in front (RFC 8839 section 5.4)."""
    return media.value(name) or session.value(name)


def _opus(media: Media) -> int | None:
    """The payload type of Opus."""
    for name, value in media.attributes:
        payload_type, _, encoding = value.partition(" ")
        if name == "rtpmap" and encoding.strip().lower() == "opus/48000/2" and payload_type in media.formats:
            return int(payload_type) if _is_payload_type(payload_type) else None
    return None


def _red(audio: Media) -> int | None:
    """The payload type of redundant audio, where nothing but Opus is in it."""
    opus = _opus(audio)
    for value in audio.values("rtpmap"):
        payload_type, _, encoding = value.partition(" ")
        if encoding.strip().lower() != "red/48000/2" or payload_type not in audio.formats:
            continue
        formats = [line.partition(" ")[2] for line in audio.values("fmtp") if line.partition(" ")[0] == payload_type]
        if formats and set(formats[0].split("/")) == {str(opus)} and payload_type != str(opus):
            return int(payload_type) if _is_payload_type(payload_type) else None
    return None


def _fingerprints(session: Media, media: Media) -> tuple[Fingerprint, ...]:
    found = [value for section in (media, session) for name, value in section.attributes if name == "fingerprint"]
    fingerprints = []
    for value in found:
        algorithm, _, digest = value.partition(" ")
        length = _DIGEST_BYTES.get(algorithm.lower())
        if length and re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*", digest.strip()):
            if len(digest.strip()) == 3 * length - 1:
                fingerprints.append(Fingerprint(algorithm.lower(), digest.strip().upper()))
    if not fingerprints:
        raise BadOffer("The SDP has no usable certificate fingerprint (a=fingerprint:sha-256 …).", param="fingerprint")
    return tuple(dict.fromkeys(fingerprints))


def _bundle(session: Media, carrier: Media) -> tuple[str, ...]:
    """The mids of the group that ``carrier`` is in (RFC 8843); without one, every section wants its own transport."""
    for name, value in session.attributes:
        mids = value.split()
        if name == "group" and mids[:1] == ["BUNDLE"] and carrier.value("mid") in mids[1:]:
            return tuple(mids[1:])
    return ()


def _number(media: Media | None, name: str, default: int, *, least: int = 0, most: int = 2**32) -> int:
    value = media.value(name) if media else None
    if value is None:
        return default
    if not value.isdecimal() or len(value) > 10 or not least <= int(value) <= most:
        raise BadOffer(f"a={name} is not a number from {least} to {most}: {value[:40]!r}.", param=name)
    return int(value)
