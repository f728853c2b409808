"""WebRTC: all peers of all calls on one UDP socket, by ICE-lite, DTLS, SRTP and SCTP."""

__all__: list[str] = []
