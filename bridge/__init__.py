"""Server-side WebRTC-to-WebSocket media bridge for the OpenAI-style Realtime API."""

import os

__all__ = ["__version__"]

__version__ = "0.1.0"

# Before numpy is first imported: its BLAS would start a thread per core, which gain nothing on frames of 20 ms.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
