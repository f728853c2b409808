"""The dialect of 46elks' real-time voice (a beta version): JSON both ways, and PCM16 in base64.

``hello`` tells who calls. No sound comes before the bridge has said ``listening``, and none is heard before it has said
``sending``. ``sync`` comes back when all before it has been played, and has no name. After ``interrupt`` everything is
ignored until the bridge says ``sending`` again. ``bye`` hangs up, from either side. 46elks does not tell keys.
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
