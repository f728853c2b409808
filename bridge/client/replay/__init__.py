"""The command ``bridge replay``: makes a recorded call again, and says what is different this time.

from bridge.client.replay import ReplayedCall, read_recording
call = ReplayedCall(read_recording("rtc_….jsonl"), Plan("http://127.0.0.1:8080"))
events = await call.run()             # what the server said, each with its time
"""

from bridge.client.replay.call import ReplayedCall
from bridge.client.replay.compare import Difference, differences
from bridge.client.replay.recording import Recorded, TimedEvent, read_recording

__all__ = ["Difference", "Recorded", "ReplayedCall", "TimedEvent", "differences", "read_recording"]
