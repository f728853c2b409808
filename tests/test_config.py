"""Settings: where they come from, what they may be, and how a bad one is told."""

import argparse
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiortc.rtcdtlstransport import generate_certificate
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from bridge.config import (
    AccessSettings,
    Config,
    LogSettings,
    MediaSettings,
    is_loopback,
    settings_table,
)
from bridge.config import add_flags as add_flags_of
from bridge.config import load as load_with
from bridge.config.fields import Setting, settings_of
from bridge.config.load import Sources
from bridge.config.rooms import ROOMS
from bridge.config.words import must_be
from bridge.errors import ConfigError
from bridge.telephony.asterisk.settings import AsteriskSettings
from bridge.telephony.settings import carrier_sections
from bridge.telephony.telnyx.settings import TelnyxSettings
from bridge.telephony.vonage.settings import VonageSettings

_CARRIERS = carrier_sections()
_SETTINGS = settings_of((*ROOMS, *_CARRIERS))
_DEFAULTS = Config(carriers=tuple(kind() for kind in _CARRIERS))


def load(argv: dict[str, Any], environ: dict[str, str], path: str | None) -> Config:
    """The settings, with those of all carriers."""
    return load_with(argv, environ, path, _CARRIERS)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags, with those of all carriers."""
    add_flags_of(parser, _CARRIERS)


def _refusal(
    argv: dict[str, Any] | None = None, environ: dict[str, str] | None = None, path: Path | None = None
) -> str:
    """The line that a start with these settings is refused with."""
    with pytest.raises(ConfigError) as caught:
        load(argv or {}, environ or {}, str(path) if path else None)
    assert "\n" not in caught.value.message
    return caught.value.message


def _file(folder: Path, text: str) -> Path:
    path = folder / "bridge.toml"
    path.write_text(text)
    return path


def test_without_any_setting_it_serves_loopback() -> None:
    """The defaults pass every check."""
    config = load({}, {}, None)
    assert config == _DEFAULTS
    server, media, access = config.server, config.media, config.access
    assert (server.host, server.port, media.udp_port, access.api_key) == ("127.0.0.1", 8080, None, ())


def test_the_later_source_wins(tmp_path: Path) -> None:
    """Flags beat the environment, which beats the file, which beats the defaults."""
    path = str(_file(tmp_path, "port = 1\nmax_calls = 1\ndrain_s = 1\n"))
    config = load({"port": "3"}, {"BRIDGE_PORT": "2", "BRIDGE_MAX_CALLS": "2"}, path)
    assert (config.server.port, config.calls.max_calls, config.server.drain_s, config.calls.call_limit_s) == (
        3,
        2,
        1.0,
        3600.0,
    )


def test_lists_in_all_three_spellings(tmp_path: Path) -> None:
    """A list is a TOML array, a comma-separated variable or a repeated flag; the last source replaces the others."""
    path = _file(tmp_path, 'api_key = ["a", "b"]\n')
    assert load({}, {}, str(path)).access.api_key == ("a", "b")
    assert load({}, {"BRIDGE_API_KEY": "c, d,"}, str(path)).access.api_key == ("c", "d")
    assert load({"api_key": ["e", "f"]}, {"BRIDGE_API_KEY": "c"}, str(path)).access.api_key == ("e", "f")


def test_an_empty_variable_is_an_unset_one() -> None:
    """Container tools pass an empty variable on for one that nobody set."""
    assert load({}, {"BRIDGE_UDP_PORT": "", "BRIDGE_API_KEY": ""}, None) == _DEFAULTS


@pytest.mark.parametrize("text", [",", " ", " , "])
def test_a_list_of_nothing_is_refused(text: str) -> None:
    """A variable that is set but empty is a mistake: it would leave the bridge without keys."""
    assert _refusal(environ={"BRIDGE_API_KEY": text}) == ("api_key: is set but empty (from environment BRIDGE_API_KEY)")


def test_strangers_in_the_namespace_and_the_environment_are_left_alone() -> None:
    """The command's own arguments and other programs' variables are not settings."""
    assert load({"command": "serve", "config": None, "port": None}, {"PATH": "/bin", "BRIDGES": "2"}, None) == _DEFAULTS


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"BRIDGE_PORT": "99999"},
            "port: must be a whole number from 0 to 65535, got '99999' (from environment BRIDGE_PORT)",
        ),
        (
            {"BRIDGE_UDP_PORT": "two"},
            "udp_port: must be a whole number from 0 to 65535, got 'two' (from environment BRIDGE_UDP_PORT)",
        ),
        (
            {"BRIDGE_DRAIN_S": "nan"},
            "drain_s: must be a number from 0 to 86400, got 'nan' (from environment BRIDGE_DRAIN_S)",
        ),
        (
            {"BRIDGE_LOG_FORMAT": "xml"},
            "log_format: must be auto, console or json, got 'xml' (from environment BRIDGE_LOG_FORMAT)",
        ),
        (
            {"BRIDGE_ADVERTISE": "10.0.0.1,media.example.org"},
            "advertise: must be an IP address, not a name, got 'media.example.org' (from environment BRIDGE_ADVERTISE)",
        ),
        (
            {"BRIDGE_TRUSTED_PROXIES": "10.0.0.0/8,proxy.example"},
            "trusted_proxies: must be an IP address or network (10.0.0.0/8), got 'proxy.example' "
            "(from environment BRIDGE_TRUSTED_PROXIES)",
        ),
        (
            {"BRIDGE_TRUSTED_PROXIES": "127.0.0.1"},
            "trusted_proxies: needs api_key as well: a proxy forwards requests from other machines "
            "(from environment BRIDGE_TRUSTED_PROXIES)",
        ),
        ({"BRIDGE_PROT": "1"}, "prot: unknown setting, did you mean port? (from environment BRIDGE_PROT)"),
        (
            {"BRIDGE_CARRIER_PARAMETERS": "voice,tools"},
            "carrier_parameters: must be a list of instructions, voice, model, got 'voice,tools' "
            "(from environment BRIDGE_CARRIER_PARAMETERS)",
        ),
        (
            {"BRIDGE_PAGE_KEYS": "maybe"},
            "page_keys: must be true or false, got 'maybe' (from environment BRIDGE_PAGE_KEYS)",
        ),
        ({"BRIDGE_ZZZ": "1"}, "zzz: unknown setting (from environment BRIDGE_ZZZ)"),
        (
            {"BRIDGE_PORT": "8\n0"},
            r"port: must be a whole number from 0 to 65535, got '8\n0' (from environment BRIDGE_PORT)",
        ),
    ],
)
def test_a_bad_variable_is_named(environ: dict[str, str], line: str) -> None:
    """One line: the key, what was expected, what was there, and where."""
    assert _refusal(environ=environ) == line


@pytest.mark.parametrize("given", ["warn", "WARN", "Warning", "warning"])
def test_a_level_may_be_written_as_other_programs_do(given: str) -> None:
    """``warn`` is ``warning``, and words count in any case."""
    assert load({}, {"BRIDGE_LOG_LEVEL": given}, None).log.log_level == "warning"


_OF_KUBERNETES = {
    "BRIDGE_PORT": "tcp://10.43.7.9:8080",
    "BRIDGE_SERVICE_HOST": "10.43.7.9",
    "BRIDGE_SERVICE_PORT": "8080",
    "BRIDGE_SERVICE_PORT_HTTP": "8080",
    "BRIDGE_PORT_8080_TCP": "tcp://10.43.7.9:8080",
    "BRIDGE_PORT_8080_TCP_PROTO": "tcp",
    "BRIDGE_PORT_8080_TCP_PORT": "8080",
    "BRIDGE_PORT_8080_TCP_ADDR": "10.43.7.9",
    "BRIDGE_UDP_PORT": "udp://10.43.7.9:8080",
    "BRIDGE_UDP_SERVICE_HOST": "10.43.7.9",
}


def test_what_kubernetes_says_of_its_services_is_no_setting() -> None:
    """A service called bridge, or bridge-udp, puts such variables into every container; they are left aside."""
    sources = Sources({}, {**_OF_KUBERNETES, "BRIDGE_MAX_CALLS": "7"}, None)
    config = sources.load()
    assert (config.server.port, config.media.udp_port, config.calls.max_calls) == (8080, None, 7)
    assert sources.ignored == list(_OF_KUBERNETES)


def test_a_setting_beside_those_of_kubernetes_is_still_one() -> None:
    """Ports that are numbers count, and so do mistakes."""
    assert Sources({}, {"BRIDGE_PORT": "9000"}, None).load().server.port == 9000
    assert _refusal(environ={"BRIDGE_PORT": "10.0.0.1:8080"}).startswith("port: must be a whole number")


def test_a_bad_flag_is_named() -> None:
    """A flag is told as it is typed."""
    assert (
        _refusal({"max_calls": "0"})
        == "max_calls: must be a whole number of at least 1, got '0' (from flag --max-calls)"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('port = "80"', "port: must be a whole number from 0 to 65535, got '80' (from file {path})"),
        ("port = true", "port: must be a whole number from 0 to 65535, got true (from file {path})"),
        (
            'advertise = "10.0.0.1"',
            'advertise: must be a list, such as ["a", "b"], got \'10.0.0.1\' (from file {path})',
        ),
        ("udp-port = 1", "udp-port: unknown setting, did you mean udp_port? (from file {path})"),
        ("[sever]\nport = 1", "sever: unknown setting, did you mean server? (from file {path})"),
        ("[server]\nprot = 1", "server.prot: unknown setting, did you mean port? (from file {path})"),
        ("[server]\nudp_port = 1", "server.udp_port: unknown setting there; it belongs in [media] (from file {path})"),
        ("port = 1\n[server]\nport = 2", "port: it is set there twice (from file {path})"),
        ("[server]\nport = 99999", "port: must be a whole number from 0 to 65535, got 99999 (from file {path})"),
        ("port 80", "config: {path} is not TOML: Expected '=' after a key in a key/value pair (at line 1, column 6)"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, line: str) -> None:
    """A file says types itself, so a number in quotes is refused there."""
    path = _file(tmp_path, text)
    assert _refusal(path=path) == line.format(path=path)


def test_a_file_may_have_a_table_for_each_room(tmp_path: Path) -> None:
    """A setting stands on top or in its section's table, there also without the section's name in front."""
    (tmp_path / "key").write_text("sesame")
    text = f"""
        drain_s = 1
        [server]
        port = 1
        [upstream]
        upstream = "wss://a.example/v1/realtime"
        key_file = "{tmp_path / "key"}"
        [log]
        level = "debug"
        [asterisk]
        secret = ["s"]
        [upstreams.b]
        url = "local"
    """
    config = load({}, {}, str(_file(tmp_path, text)))
    assert (config.server.drain_s, config.server.port, config.log.log_level) == (1.0, 1, "debug")
    assert (config.upstream.upstream, config.upstream.upstream_key) == ("wss://a.example/v1/realtime", "sesame")
    assert config.of(AsteriskSettings).asterisk_secret == ("s",)
    assert list(config.upstream.upstreams) == ["b"]


def test_names_are_unique_among_all_rooms() -> None:
    """A setting is found by its name alone, and a section's table by its own."""
    kinds = (*ROOMS, *_CARRIERS)
    assert sum(len(kind.__struct_fields__) for kind in kinds) == len(_SETTINGS)
    assert len({kind.section for kind in kinds}) == len(kinds)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that was asked for must be there."""
    path = tmp_path / "none.toml"
    assert _refusal(path=path) == f"config: cannot read {path}: No such file or directory"


def test_a_bad_value_is_refused_even_where_a_later_source_wins() -> None:
    """A mistake shows at once, not on the day when the flag that hides it is dropped."""
    assert "BRIDGE_PORT" in _refusal({"port": "1"}, {"BRIDGE_PORT": "x"})


def test_others_are_not_served_without_a_key() -> None:
    """Without a key any host but loopback is refused, with the ways out; with one it is fine."""
    assert _refusal({"host": "0.0.0.0"}) == (
        "host: other machines can reach 0.0.0.0, and no api_key is set: "
        "set --api-key or BRIDGE_API_KEY, or listen on 127.0.0.1 (from flag --host)"
    )
    assert load({"host": "0.0.0.0", "api_key": ["k"]}, {}, None).server.host == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback(host: str) -> None:
    """The whole 127 net, IPv6's one address and the one name that always means it."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "127.1", ""])
def test_not_loopback(host: str) -> None:
    """Anything else, and anything that cannot be told, counts as reachable."""
    assert not is_loopback(host)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    """One without the other is refused, and so is one that cannot be read."""
    cert = tmp_path / "cert"
    cert.touch()
    missing = tmp_path / "key"
    assert _refusal({"tls_cert": str(cert)}) == "tls_cert: needs tls_key as well (from flag --tls-cert)"
    assert _refusal({"tls_key": str(cert)}) == "tls_key: needs tls_cert as well (from flag --tls-key)"
    assert _refusal({"tls_cert": str(cert), "tls_key": str(missing)}) == (
        f"tls_key: cannot read {missing}: No such file or directory (from flag --tls-key)"
    )
    assert "no certificate" in _refusal({"tls_cert": str(cert), "tls_key": str(cert)})
    key = ec.generate_private_key(ec.SECP256R1())
    chain = generate_certificate(key).public_bytes(Encoding.PEM)
    cert.write_bytes(chain + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert load({"tls_cert": str(cert), "tls_key": str(cert)}, {}, None).server.tls_cert == str(cert)


def test_origins_are_as_a_browser_sends_them() -> None:
    """A path, upper case or a missing scheme would never match, so they are refused at the start."""
    good = ["https://app.example.org", "http://localhost:3000", "http://[::1]:8080", "chrome-extension://abcdef"]
    assert load({"allow_origin": good}, {}, None).access.allow_origin == tuple(good)
    for bad in ("app.example.org", "https://app.example.org/", "https://App.example.org", "**", "https://a:b@c"):
        assert _refusal({"allow_origin": [bad]}).startswith("allow_origin: must be scheme://host[:port] in lower case")


def test_every_origin_may_be_allowed_where_keys_are_asked_for() -> None:
    """Keys protect the bridge then; without them the start is refused, and so are keys for whoever asks."""
    assert load({"allow_origin": ["*"], "api_key": ["k"]}, {}, None).access.allow_origin == ("*",)
    assert _refusal({"allow_origin": ["*"]}).startswith("allow_origin: * admits every web page, and without api_key")
    mixed = {"allow_origin": ["https://app.example.org", "*"], "page_keys": "true", "api_key": ["k"]}
    assert _refusal(mixed).startswith("page_keys: with allow_origin * every web page could get keys")


def test_keys_are_never_shown(tmp_path: Path) -> None:
    """Not in a repr, where only their number stands, and not in a refusal."""
    config = load({"api_key": ["sekrit", "hush"]}, {}, None)
    assert "api_key=<2>" in repr(config)
    assert "sekrit" not in repr(config)
    assert "hush" not in f"{config!s} {config}"
    assert "sekrit" not in _refusal(path=_file(tmp_path, 'api_key = "sekrit"'))


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    """One a line if there may be several, named by flag, environment or file; a later source still wins."""
    path, single = tmp_path / "secret", tmp_path / "single"
    path.write_text("one\ntwo\n")
    single.write_text("one\n")
    file = _file(tmp_path, f'api_key_file = "{path}"\ntelnyx_secret = ["old"]\n')
    parser = argparse.ArgumentParser()
    add_flags(parser)
    typed = vars(parser.parse_args(["--asterisk-secret-file", str(path)]))
    environ = {"BRIDGE_TELNYX_SECRET_FILE": str(path), "BRIDGE_UPSTREAM_KEY_FILE": str(single)}
    config = load(typed, environ, str(file))
    assert config.upstream.upstream_key == "one"
    assert config.access.api_key == config.of(AsteriskSettings).asterisk_secret == ("one", "two")
    assert config.of(TelnyxSettings).telnyx_secret == ("one", "two")
    assert load({"api_key": ["flag"]}, {}, str(file)).access.api_key == ("flag",)


def test_a_private_key_may_come_from_a_file(tmp_path: Path) -> None:
    """All its lines count; what is no RSA key, or has a password, is refused by the setting's name."""
    path = tmp_path / "key.pem"
    environ = {"BRIDGE_VONAGE_APPLICATION_ID": "app-1", "BRIDGE_VONAGE_PRIVATE_KEY_FILE": str(path)}
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path.write_text(pem)
    assert load({}, environ, None).of(VonageSettings).vonage_private_key == pem.strip()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for bad in (locked, curve, b"-----BEGIN"):
        path.write_bytes(bad)
        assert _refusal(environ=environ).startswith(
            "vonage_private_key: must be an RSA key as PEM, without a password (from "
        )


@pytest.mark.parametrize(
    "name",
    ["engine_llm_url", "upstream", "upstream_fallback", "public_url", "webhook_url", "asterisk_url", "infobip_url"],
)
def test_a_refused_address_shows_no_password(name: str) -> None:
    """Its user, password and query are masked."""
    url = "ftp://user:pass/word@host.example/v1?token=hidden"
    beside = {"BRIDGE_INFOBIP_API_KEY": "k"} if name == "infobip_url" else {}
    line = _refusal(environ={f"BRIDGE_{name.upper()}": url, **beside})
    assert "'ftp://***@host.example/v1?***'" in line


def test_a_bad_secret_file_is_named(tmp_path: Path) -> None:
    """With what is wrong with it, and nothing of what stands in it."""
    missing, empty, binary = tmp_path / "missing", tmp_path / "empty", tmp_path / "binary"
    empty.touch()
    binary.write_bytes(b"\xffsekrit")
    for path, reason in (
        (missing, f"cannot read {missing}: No such file or directory"),
        (empty, f"{empty} is empty"),
        (binary, f"cannot read {binary}: it is not text"),
    ):
        line = f"api_key_file: {reason} (from environment BRIDGE_API_KEY_FILE)"
        assert _refusal(environ={"BRIDGE_API_KEY_FILE": str(path)}) == line
    assert _refusal({}, {"BRIDGE_PORT_FILE": str(empty)}).startswith("port_file: unknown setting")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"public_url": "bridge.example.com"}, "public_url: must be https://host"),
        ({"public_url": "https://bridge.example.com?x=1"}, "public_url: must be https://host"),
        ({"twilio_auth_token": ["sekrit"]}, "twilio_auth_token: needs public_url as well"),
        ({"asterisk_url": "http://pbx:8088/media"}, "asterisk_url: must be ws://host:8088/media"),
        ({"audiosocket_host": "pbx"}, "audiosocket_host: must be an IP address or localhost, got 'pbx'"),
        ({"audiosocket_uuid": ["sekrit"]}, "audiosocket_uuid: must be a UUID in lower case"),
        ({"carrier_parameters": ["tools"]}, "carrier_parameters: "),
    ],
)
def test_settings_of_telephones(settings: dict[str, Any], line: str) -> None:
    """What no call could be made with is refused at the start."""
    refusal = _refusal(settings)
    assert refusal.startswith(line)
    assert "sekrit" not in refusal


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"api_key": ["sk-1", "ek_sekrit"]}, "api_key: a key that begins with ek_ would be mistaken for a minted key"),
        ({"max_calls": "5", "reserved_calls": "6"}, "reserved_calls: must be at most max_calls, which is 5, got 6"),
        ({"advertise": ["0.0.0.0"]}, "advertise: must be an address of one machine, without a zone, got '0.0.0.0'"),
        ({"advertise": ["::"]}, "advertise: must be an address of one machine"),
        ({"advertise": ["224.0.0.1"]}, "advertise: must be an address of one machine"),
        ({"advertise": ["fe80::1%eth0"]}, "advertise: must be an address of one machine"),
    ],
)
def test_settings_that_can_never_work(settings: dict[str, Any], line: str) -> None:
    """What makes a key, a slot or an address useless is refused at the start."""
    refusal = _refusal(settings)
    assert refusal.startswith(line)
    assert "sekrit" not in refusal


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[upstreams.local]\nurl = "ws://a"', "upstreams: local is reserved; choose another name"),
        ('[upstreams.agent]\nurl = "ws://a"', "upstreams: agent is reserved; choose another name"),
        (
            '[upstreams.a]\nurl = "ws://a"\nmodels = ["m", "n"]\n[upstreams.b]\nurl = "ws://b"\nmodels = ["n"]',
            "upstreams: b.models: calls for n already go to a",
        ),
        ("[upstreams.a]", "upstreams: a.url is missing"),
        (
            '[upstreams.a]\nkind = "cascade"',
            "upstreams: a.kind = 'cascade' needs llm_url, llm_path, stt_url or tts_url",
        ),
        (
            '[upstreams.a]\nkind = "cascade"\nurl = "ws://a"\nllm_url = "http://a/v1"',
            "upstreams: a.url is not for kind = 'cascade'",
        ),
        ('[upstreams.a]\nurl = "ws://a"\nllm_url = "http://a"', "upstreams: a.llm_url is not for kind = 'realtime'"),
        (
            '[upstreams.a]\nkind = "cascade"\nstt_url = "ftp://a"',
            "upstreams: a.stt_url must be http(s)://host/v1 or ws(s)://host/v1/realtime, got 'ftp://a'",
        ),
        (
            '[upstreams.a]\nkind = "cascade"\nllm_url = "http://a"\nllm_key_env = "NO_SUCH"',
            "upstreams: a.llm_key_env names NO_SUCH, which is not in the environment",
        ),
        ('[upstreams.a]\nurl = "ws://a"\nmodle = "m"', "upstreams: a has an unknown field modle, did you mean model?"),
        ("[upstreams.a]\nurl = 1", "upstreams: a.url must be text"),
        ('[upstreams.a]\nurl = "ws://a"\nmodels = [""]', "upstreams: a.models[0] must be text that is not empty"),
        ("upstreams = 1", "upstreams: must be named tables"),
    ],
)
def test_upstreams_that_would_never_be_called(tmp_path: Path, text: str, line: str) -> None:
    """Two upstreams of one model, or one by a name that is taken, are refused at the start."""
    assert _refusal(path=_file(tmp_path, text)).startswith(line)


def test_every_setting_has_a_flag() -> None:
    """What is typed arrives under the field's name; what is not typed leaves nothing behind."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    typed = parser.parse_args(["--udp-port", "0", "--api-key", "k", "--api-key", "l", "--log-format", "json"])
    assert vars(typed) == {"udp_port": "0", "api_key": ["k", "l"], "log_format": "json"}
    assert load(vars(typed), {}, None) == Config(
        media=MediaSettings(udp_port=0),
        access=AccessSettings(api_key=("k", "l")),
        log=LogSettings(log_format="json"),
        carriers=_DEFAULTS.carriers,
    )
    for name in _SETTINGS:
        is_table = name == "upstreams"  # for the file only
        assert (f"--{name.replace('_', '-')} " in parser.format_help()) is not is_table


def test_every_default_passes_its_own_limits() -> None:
    """A default that could not be typed would be a trap."""
    for kind in (*ROOMS, *_CARRIERS):
        assert msgspec.convert(msgspec.to_builtins(kind()), kind, strict=False) == kind()


def test_the_table_has_a_row_for_each_setting() -> None:
    """Flag, variable, default, when a change applies and meaning, ready for the reference."""
    table = settings_table(_CARRIERS)
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(_SETTINGS)
    assert "| `--max-calls` | `BRIDGE_MAX_CALLS` | 200 | live | " in table
    assert "| `--call-limit-s` | `BRIDGE_CALL_LIMIT_S` | 3600 | new_calls | " in table
    assert "| `--port` | `BRIDGE_PORT` | 8080 | restart | " in table


@pytest.mark.parametrize("one", _SETTINGS.values(), ids=_SETTINGS)
def test_every_setting_can_say_what_it_must_be(one: Setting) -> None:
    """In words that a person understands, without the names of Python's types."""
    if not one.is_table:
        said = must_be(one)
        assert said.startswith("must be ")
        assert not re.search(r"\b(int|float|str|bool|None|null)\b", said)
