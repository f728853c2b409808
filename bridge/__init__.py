"""Server-side WebRTC-to-WebSocket media bridge for the OpenAI-style Realtime API."""

import os

__all__ = ["__version__"]

__version__ = "0.1.0"

# This comes before numpy is imported: its BLAS would start a thread per core, which gains nothing on 20 ms frames.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
