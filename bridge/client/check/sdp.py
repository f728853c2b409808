"""Makes an offer as a browser does, and judges whether an answer fits it."""

import secrets

__all__ = ["answer_flaws", "new_offer"]

_OFFER = """v=0
o=- {session} 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=msid-semantic: WMS stream
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:{pwd}
a=ice-options:trickle
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:0
a=sendrecv
a=msid:stream track
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
a=ssrc:1234 cname:check
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:{pwd}
a=ice-options:trickle
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:1
a=sctp-port:5000
a=max-message-size:262144
"""
_SECTIONS = ("m=audio", "m=application")


def new_offer() -> str:
    """Returns an offer as Chromium makes it.

    It has no candidates, because Chromium posts its offer before it has any.
    """
    return _OFFER.format(
        session=secrets.randbelow(2**62),
        ufrag=secrets.token_hex(2),
        pwd=secrets.token_hex(12),
        fingerprint=":".join(f"{byte:02X}" for byte in secrets.token_bytes(32)),
    ).replace("\n", "\r\n")


def answer_flaws(answer: str) -> list[str]:
    """Returns in words what keeps a browser from connecting with this answer to ``new_offer`` (RFC 8829 section
    5.3).
    """
    lines = answer.replace("\r\n", "\n").split("\n")
    starts = [at for at, line in enumerate(lines) if line.startswith("m=")]
    if tuple(lines[at].split(" ")[0] for at in starts) != _SECTIONS:
        return [f"the answer's sections are {[lines[at].split(' ')[0] for at in starts]}; wanted: {list(_SECTIONS)}"]
    session = lines[: starts[0]]
    audio, application = lines[starts[0] : starts[1]], lines[starts[1] :]
    parts = {"audio": audio, "application": application}
    found = [f"the {name} section is rejected" for name, part in parts.items() if part[0].split(" ")[1] == "0"]
    if "a=mid:0" not in audio or "a=mid:1" not in application:
        found.append("a section has another mid than in the offer")
    if "a=group:BUNDLE 0 1" not in session:
        found.append("the sections are not in a single BUNDLE group")
    found += [
        f"there is no {prefix}"
        for prefix in ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:")
        if not any(line.startswith(prefix) for line in (*session, *audio))
    ]
    if not any(line in ("a=setup:active", "a=setup:passive") for line in (*session, *audio)):
        found.append("a=setup is neither active nor passive")
    if not any(line.startswith("a=candidate:") for line in audio):
        found.append("there is no candidate, and the protocol has no way to send one later")
    if any(line in ("a=recvonly", "a=inactive") for line in audio):
        found.append("the answer does not send sound")
    if not any("opus/48000/2" in line for line in audio):
        found.append("the answer does not contain Opus")
    if "a=rtcp-mux" not in audio:
        found.append("the answer has no a=rtcp-mux")
    return found
