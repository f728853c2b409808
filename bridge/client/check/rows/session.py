"""Rows about the session and its settings."""

from bridge.client.check.rows.common import CLIENT, FUNCTION, GUIDE, REFERENCE, SERVER, input_settings, update
from bridge.client.check.steps import Expect, Refused, Row, Send
from bridge.client.check.values import ANY, ID, NUMBER, TEXT, Absent, OneOf

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    Row(
        id="session.created",
        says="The first event is session.created, with an ID, the type and the model.",
        source=SERVER,
        steps=(Expect("session.created", {"session.id": ID, "session.type": "realtime", "session.model": TEXT}),),
        dialects=("ga",),
    ),
    Row(
        id="session.created_flat",
        says="The first event is session.created, with a flat session: modalities, formats and a temperature.",
        source="Realtime API reference (beta), server events",
        steps=(
            Expect(
                "session.created",
                {
                    "session.id": ID,
                    "session.model": TEXT,
                    "session.modalities": ANY,
                    "session.input_audio_format": "pcm16",
                    "session.temperature": NUMBER,
                },
            ),
        ),
        dialects=("beta",),
    ),
    Row(
        id="session.defaults",
        says="A session without settings answers with sound and detects turns.",
        source=REFERENCE.format("session"),
        steps=(
            Expect(
                "session.created",
                {
                    "session.output_modalities.0": "audio",
                    "session.audio.input.turn_detection.type": OneOf(("server_vad", "semantic_vad")),
                    "session.audio.output.voice": ANY,
                },
            ),
        ),
        dialects=("ga",),
    ),
    Row(
        id="session.formats_told",
        says="The session reports its formats: PCM at 24 kHz both ways.",
        source=REFERENCE.format("session"),
        steps=(
            Expect(
                "session.created",
                {
                    "session.audio.input.format.type": "audio/pcm",
                    "session.audio.input.format.rate": 24000,
                    "session.audio.output.format.type": "audio/pcm",
                },
            ),
        ),
        dialects=("ga",),
    ),
    Row(
        id="session.update",
        says="session.update is answered with session.updated and the new value.",
        source=CLIENT,
        steps=(update(instructions="Be brief."), Expect("session.updated", {"session.instructions": "Be brief."})),
    ),
    Row(
        id="session.merge",
        says="A second update changes only what it names.",
        source=CLIENT,
        steps=(
            update(instructions="Be brief."),
            Expect("session.updated"),
            update(tools=[FUNCTION]),
            Expect("session.updated", {"session.instructions": "Be brief.", "session.tools.0.name": FUNCTION["name"]}),
        ),
    ),
    Row(
        id="session.deep_merge",
        says="An update of one setting of audio.input leaves the others unchanged.",
        source=CLIENT,
        steps=(
            input_settings(turn_detection={"type": "server_vad", "silence_duration_ms": 700}),
            Expect("session.updated", {"session.audio.input.turn_detection.silence_duration_ms": 700}),
            input_settings(noise_reduction={"type": "near_field"}),
            Expect(
                "session.updated",
                {
                    "session.audio.input.turn_detection.silence_duration_ms": 700,
                    "session.audio.input.noise_reduction.type": "near_field",
                },
            ),
        ),
        dialects=("ga",),
        is_optional=True,
    ),
    Row(
        id="session.turn_detection_off",
        says="turn_detection: null switches turn detection off.",
        source=CLIENT,
        steps=(
            input_settings(turn_detection=None),
            Expect("session.updated", {"session.audio.input.turn_detection": Absent()}),
        ),
    ),
    Row(
        id="session.semantic_vad",
        says="Turn detection can be semantic_vad.",
        source=GUIDE.format("voice activity detection"),
        steps=(
            input_settings(turn_detection={"type": "semantic_vad", "eagerness": "high"}),
            Expect("session.updated", {"session.audio.input.turn_detection.type": "semantic_vad"}),
        ),
        is_optional=True,
    ),
    Row(
        id="session.text_only",
        says="output_modalities can be text only.",
        source=CLIENT,
        steps=(
            update(output_modalities=["text"]),
            Expect("session.updated", {"session.output_modalities": ["text"]}),
        ),
    ),
    Row(
        id="session.same_model",
        says="An update may name the model that the session has.",
        source="@openai/agents-realtime sends it with every update",
        steps=(
            Expect("session.created", keep={"model": "session.model"}),
            update(model="$model"),
            Expect("session.updated", {"session.model": "$model"}),
        ),
        dialects=("ga",),
    ),
    Row(
        id="session.type_required",
        says="An update without session.type is refused.",
        source=CLIENT,
        steps=(
            Send({"type": "session.update", "session": {"instructions": "Be brief."}}),
            Refused(("missing_required_parameter",), param="session.type"),
        ),
        dialects=("ga",),
    ),
    Row(
        id="session.unknown_field",
        says="A flat session, as in beta, is refused, and the error names the field.",
        source="observed: \"Unknown parameter: 'session.voice'.\"",
        steps=(update(voice="alloy"), Refused(("unknown_parameter",), param="session.voice")),
        dialects=("ga",),
    ),
    Row(
        id="session.wrong_kind",
        says="A setting of the wrong type is refused, and the error names it.",
        source=SERVER,
        steps=(update(instructions=7), Refused(("invalid_type", "invalid_value"), param="session.instructions")),
    ),
    Row(
        id="session.refused_whole",
        says="A refused update changes nothing.",
        source=CLIENT,
        steps=(
            update(instructions="Be brief."),
            Expect("session.updated"),
            update(instructions="Be long.", tools=7),
            Refused(),
            update(tool_choice="auto"),
            Expect("session.updated", {"session.instructions": "Be brief."}),
        ),
    ),
)
