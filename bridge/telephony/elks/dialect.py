"""46elks' real-time voice (a beta of theirs): JSON both ways, PCM16 in base64.

``hello`` tells who calls; nothing comes before we are ``listening``, and nothing is heard before we are ``sending``.
``sync`` comes back when all before it has been played, and has no name. Behind ``interrupt`` everything is ignored
until we are ``sending`` again. ``bye`` hangs up, from either side. Keys are not told.
"""

from bridge.telephony.dialect import Traits
from bridge.telephony.json_dialect import JsonSpec, Meaning

__all__ = ["ELKS_DIALECT"]

_SENDING = '{"t":"sending","format":"pcm_24000"}'

ELKS_DIALECT = JsonSpec(
    name="elks",
    title="46elks",
    traits=Traits(lead_ms=1000),
    tag=("t",),
    meanings={"hello": Meaning.START, "audio": Meaning.SOUND, "sync": Meaning.PLAYED, "bye": Meaning.END},
    call=("callid",),
    ids={"callid": ("callid",)},
    takes_rest=True,
    encodings={"pcm_24000": None},
    pcm_hz=(24_000,),
    default_hz=24_000,
    accept=('{"t":"listening","format":"pcm_24000"}', _SENDING),
    payload=("data",),
    sound='{"t":"audio","data":"<payload>"}',
    set_mark='{"t":"sync"}',
    are_marks_nameless=True,
    clear_all=('{"t":"interrupt"}', _SENDING),
    hang_up='{"t":"bye"}',
)
