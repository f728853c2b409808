"""Sound: G.711, rates, Opus, jitter, playout; bytes in, bytes out, no sockets and no clock."""
