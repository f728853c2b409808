"""The command line: ``bridge serve`` runs the daemon, ``bridge config`` shows what settings it would have.

``bridge call``, ``bridge bench``, ``bridge check`` and ``bridge replay`` call any Realtime server. ``bridge calls``,
``bridge listen`` and ``bridge hangup`` are for whoever runs a bridge. Only the chosen command is imported, so that
``bridge --help`` and ``bridge --version`` answer at once.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from bridge import __version__
from bridge.errors import ConfigError

if TYPE_CHECKING:
    import asyncio

    from bridge.config.load import Sources

__all__ = ["main", "whole_parser"]

_SUPERVISOR = "SUPERVISOR_CONNECTION"  # bridge.supervisor.messages has it, and is imported only if it is needed


def main(argv: list[str] | None = None) -> None:
    """Runs one command and returns its exit code; 2, with one line on standard error, if a setting is wrong."""
    _fill_standard_streams()
    _heed_interrupts()
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words).parse_args(words)
    try:
        sys.exit(arguments.run(arguments))
    except ConfigError as error:
        sys.exit(_complain(error.message))


def _fill_standard_streams() -> None:
    """Opens the null device for standard streams that are closed.

    A socket would get the number of one of them otherwise.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _heed_interrupts() -> None:
    """Handles SIGINT again if whoever started the program has set it to be ignored, as shells do in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _parser(words: list[str]) -> argparse.ArgumentParser:
    """Returns a parser of all commands by name, with the flags of the chosen one.

    The chosen command is the first of ``words`` that is no flag.
    """
    chosen = next((word for word in words if not word.startswith("-")), None)
    return _parser_of(lambda name: name == chosen)


def whole_parser() -> argparse.ArgumentParser:
    """Returns a parser of all commands with all of their flags, for completion and manuals.

    It imports every command.
    """
    parser = _parser_of(lambda name: True)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.help = "what to do"  # without it they count as hidden
    return parser


def _version() -> str:
    """Our name and version, and whether the modules that each packet goes through are compiled."""
    media = os.path.join(os.path.dirname(__file__), "media")
    is_compiled = any(name.startswith("inbound.") and name.endswith(".so") for name in os.listdir(media))
    return f"bridge {__version__}{' (compiled)' if is_compiled else ''}"


def _parser_of(is_wanted: Callable[[str], bool]) -> argparse.ArgumentParser:
    parser = _Parser(prog="bridge", usage="bridge COMMAND [FLAGS]", add_help=False)
    _describe(parser, f"A WebRTC-to-WebSocket bridge for the Realtime API.\n\n{_list_of_commands()}")
    parser.add_argument("-h", "--help", action="help", help="show this; bridge COMMAND --help shows a command's flags")
    parser.add_argument("--version", action="version", version=_version(), help="show the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", prog="bridge", help=argparse.SUPPRESS)
    for name, (meaning, add_flags) in _COMMANDS.items():
        command = commands.add_parser(name, help=meaning)
        if is_wanted(name):
            add_flags(command)
    return parser


def _list_of_commands() -> str:
    """Returns each command with its purpose, by task."""
    lines: list[str] = []
    for task, commands in _TASKS.items():
        lines += [f"{task}:", *(f"  {name:<11} {meaning}" for name, (meaning, _) in commands.items()), ""]
    return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    """Python's parser, which for a mistake also says what was probably meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Returns the arguments. An unknown flag ends the program here, where the flags of its command are known."""
        known, unknown = super().parse_known_args(args, namespace)
        flag = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
        if flag is not None:
            self.error(f"unknown flag {flag}{_hint(flag, self._option_string_actions)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Ends the program with a line that says what is wrong, and one that says where help is."""
        command = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if command is not None and "COMMAND" in message:
            message = f"unknown command {command[1]}{_hint(command[1], re.findall(r'[a-z]+', command[2]))}"
        if value := re.match(r"argument (\S+): expected one argument", message):
            flag = value[1].split("/")[-1]
            action = self._option_string_actions[flag]
            *words, last = [str(word) for word in action.choices or str(action.metavar).split("|")]
            message = f"{flag} needs a value"
            if words:
                message += f": {', '.join(words)} or {last}"
        self.exit(2, f"{self.prog}: {message}\n{self.prog} --help lists what there is.\n")


def _hint(given: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    closest = get_close_matches(given, list(names), n=1)
    return f", did you mean {closest[0]}?" if closest else ""


def _add_serve(parser: argparse.ArgumentParser) -> None:
    from bridge.config import add_flags
    from bridge.telephony.settings import carrier_sections

    parser.usage = "bridge serve [--config FILE] [--replace] [--SETTING VALUE ...]"
    parser.description = (
        "Runs the daemon. Each setting can be given as a flag, as a variable BRIDGE_SETTING, or in the file. A flag "
        "overrides a variable, and a variable overrides the file."
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="take over from the process that serves at this address, which then drains; if there is none, start as "
        "usual",
    )
    add_flags(parser, carrier_sections())
    parser.set_defaults(run=_serve)


def _add_config(parser: argparse.ArgumentParser) -> None:
    from bridge.config.flags import add_flags
    from bridge.telephony.settings import carrier_sections

    parser.description = "Checks or shows settings without starting anything."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    meaning = "Reports everything that is wrong with a file, together with environment and flags. It starts nothing."
    check = commands.add_parser("check", help="report everything that is wrong with a file", description=meaning)
    check.usage = "bridge config check FILE [--SETTING VALUE ...]"
    check.add_argument("config", metavar="FILE", help="TOML file of settings")
    check.set_defaults(run=_check_config)
    meaning = "Shows each setting and where its value comes from. Secrets are masked."
    show = commands.add_parser("show", help="show each setting and where its value comes from", description=meaning)
    show.usage = "bridge config show [--config FILE] [--SETTING VALUE ...]"
    show.add_argument("--config", metavar="FILE", help="TOML file of settings")
    show.set_defaults(run=_show_config)
    for command in (check, show):
        add_flags(command, carrier_sections())


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    from bridge.config.flags import add_flags
    from bridge.telephony.settings import carrier_sections

    parser.usage = "bridge doctor [URL] [--config FILE] [--json] [--SETTING VALUE ...]"
    _describe(parser, _DOCTOR)
    parser.add_argument("url", nargs="?", metavar="URL", help="a running bridge (default: $BRIDGE_URL, if set)")
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings")
    parser.add_argument("--json", action="store_true", help="print what was found as one JSON object")
    add_flags(parser, carrier_sections())
    parser.set_defaults(run=_doctor)


_DOCTOR = """\
Examines the settings, this machine, and the bridge at URL (or the one that runs with these settings): whether it
answers, whether media gets through (by a short call), and whether services and carriers accept their keys.
Each line is ok, a warning or a fault; the latter two say what to do.

The settings are those of `bridge serve`: the same file, variables and flags. If the bridge is on another machine, only
what it shows is examined, unless --config is given.

The exit code is 1 if there is a fault.
"""


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.usage = "bridge completion bash|zsh|fish|tcsh"
    _describe(parser, _COMPLETION)
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"), help="which shell")
    parser.set_defaults(run=_completion)


_COMPLETION = """\
Prints a script that completes commands and flags in your shell. To install it:

    bash  bridge completion bash > ~/.local/share/bash-completion/completions/bridge
    zsh   bridge completion zsh > "${fpath[1]}/_bridge"
    fish  bridge completion fish > ~/.config/fish/completions/bridge.fish
    tcsh  bridge completion tcsh > ~/.bridge.tcsh, and `source ~/.bridge.tcsh` in ~/.tcshrc
"""


def _add_call(parser: argparse.ArgumentParser) -> None:
    from bridge.client.terminal import add_call_flags

    add_call_flags(parser)
    parser.set_defaults(run=_call)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    from bridge.client.bench.command import DESCRIPTION, add_bench_flags

    _describe(parser, DESCRIPTION)
    add_bench_flags(parser)
    parser.set_defaults(run=_bench)


def _add_check(parser: argparse.ArgumentParser) -> None:
    from bridge.client.check.command import DESCRIPTION, add_check_flags

    _describe(parser, DESCRIPTION)
    add_check_flags(parser)
    parser.set_defaults(run=_check)


def _add_replay(parser: argparse.ArgumentParser) -> None:
    from bridge.client.replay.command import DESCRIPTION, add_replay_flags

    _describe(parser, DESCRIPTION)
    add_replay_flags(parser)
    parser.set_defaults(run=_replay)


def _add_calls(parser: argparse.ArgumentParser) -> None:
    from bridge.client.operators.calls import CALLS, add_calls_flags

    _describe(parser, CALLS)
    add_calls_flags(parser)
    parser.set_defaults(run=_calls)


def _add_listen(parser: argparse.ArgumentParser) -> None:
    from bridge.client.operators.listen import LISTEN, add_listen_flags

    _describe(parser, LISTEN)
    add_listen_flags(parser)
    parser.set_defaults(run=_listen)


def _add_hang_up(parser: argparse.ArgumentParser) -> None:
    from bridge.client.operators.calls import HANG_UP, add_hang_up_flags

    _describe(parser, HANG_UP)
    add_hang_up_flags(parser)
    parser.set_defaults(run=_hang_up)


def _describe(parser: argparse.ArgumentParser, description: str) -> None:
    """Shows ``description`` with its own line breaks."""
    parser.description = description
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


_Command = tuple[str, Callable[[argparse.ArgumentParser], None]]

_TASKS: dict[str, dict[str, _Command]] = {
    "run a bridge": {
        "serve": ("run the daemon", _add_serve),
        "config": ("check a file of settings, or show the settings in effect", _add_config),
        "doctor": ("find what is wrong with the settings, the machine, or a running bridge", _add_doctor),
        "completion": ("print a script that completes commands and flags in a shell", _add_completion),
    },
    "look after calls": {
        "calls": ("list calls, and find the cause of bad sound", _add_calls),
        "listen": ("listen to a running call: its transcript, and the sound of both sides", _add_listen),
        "hangup": ("end a running call", _add_hang_up),
    },
    "test a Realtime server, this one or any other": {
        "call": ("make one call: say something and hear the answer", _add_call),
        "bench": ("make many calls at once, and measure the answers", _add_bench),
        "check": ("check, row by row, how much of the protocol the server implements", _add_check),
        "replay": ("repeat a recorded call, and show what differs", _add_replay),
    },
}
_COMMANDS = {name: command for commands in _TASKS.values() for name, command in commands.items()}


def _serve(arguments: argparse.Namespace) -> int:
    sources = _sources(arguments)
    config = sources.load()  # before the daemon is imported, so that a mistake is told at once
    if config.cluster.workers or _SUPERVISOR in os.environ:
        from bridge.supervisor.command import serve_workers

        return serve_workers(config, sources, replace=arguments.replace)
    from bridge.serve import serve

    return serve(config, sources, replace=arguments.replace)


def _sources(arguments: argparse.Namespace) -> "Sources":
    from bridge.config.load import Sources
    from bridge.telephony.settings import carrier_sections

    return Sources(vars(arguments), os.environ, arguments.config, carrier_sections())


def _check_config(arguments: argparse.Namespace) -> int:
    from bridge.daemon import check

    sources = _sources(arguments)
    reading = sources.read()
    faults = list(reading.faults) if reading.config is None else check(reading.config)
    for name in sources.ignored:
        print(f"bridge: {name} comes from Kubernetes for a service called bridge, and is ignored", file=sys.stderr)
    for fault in faults:
        _complain(fault.message)
    if not faults:
        count = len(reading.origins)
        print(f"{arguments.config} is valid: {count} setting{'' if count == 1 else 's'} changed from the defaults.")
    return 2 if faults else 0


def _show_config(arguments: argparse.Namespace) -> int:
    from bridge.config.show import shown

    reading = _sources(arguments).read()
    for fault in reading.faults:
        _complain(fault.message)
    if reading.config is None:
        return 2
    print(shown(reading.config, reading.origins), end="")
    return 0


def _call(arguments: argparse.Namespace) -> int:
    from bridge import log
    from bridge.client.terminal import run_call

    log.configure("auto", "error")
    return run_call(arguments, os.environ, _new_runner)


def _bench(arguments: argparse.Namespace) -> int:
    from bridge import log
    from bridge.client.bench.command import run_bench

    log.configure("auto", "error")
    return run_bench(arguments, os.environ, _new_runner)


def _check(arguments: argparse.Namespace) -> int:
    from bridge import log
    from bridge.client.check.command import run_check

    log.configure("auto", "error")
    return run_check(arguments, os.environ, _new_runner)


def _replay(arguments: argparse.Namespace) -> int:
    from bridge import log
    from bridge.client.replay.command import run_replay

    log.configure("auto", "error")
    return run_replay(arguments, os.environ, _new_runner)


def _doctor(arguments: argparse.Namespace) -> int:
    from bridge import log
    from bridge.doctor.command import run_doctor

    log.configure("auto", "error")
    return run_doctor(arguments, _sources(arguments), os.environ, _new_runner)


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    parser = whole_parser()
    for action in _actions_of(parser):
        if action.metavar in ("FILE", "PATH"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif isinstance(action.metavar, str) and "|" in action.metavar:  # the setting takes one of a few words
            action.choices = action.metavar.split("|")
    sys.stdout.write(shtab.complete(parser, shell=arguments.shell) + "\n")
    return 0


def _actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the actions of all commands, at any depth."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions_of(command)


def _calls(arguments: argparse.Namespace) -> int:
    from bridge.client.operators.calls import run_calls

    return run_calls(arguments, os.environ)


def _listen(arguments: argparse.Namespace) -> int:
    from bridge.client.operators.listen import run_listen

    return run_listen(arguments, os.environ, _new_runner)


def _hang_up(arguments: argparse.Namespace) -> int:
    from bridge.client.operators.calls import run_hang_up

    return run_hang_up(arguments, os.environ)


def _new_runner() -> "asyncio.Runner":
    import asyncio

    import uvloop

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _complain(message: str) -> int:
    print(f"bridge: {message}", file=sys.stderr)
    return 2
