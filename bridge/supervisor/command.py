"""``bridge serve --workers N``: the supervisor, or the worker, if a supervisor has started this process."""

import asyncio
import os
import sys

from bridge import log as logging
from bridge.config import Config
from bridge.config.load import Sources
from bridge.errors import ConfigError
from bridge.service_manager import ServiceManager, given_sockets
from bridge.supervisor.messages import connection_to_supervisor

__all__ = ["serve_workers"]

_log = logging.get_logger("supervisor")


def serve_workers(config: Config, sources: Sources, *, replace: bool) -> int:
    """Serves with several processes until SIGTERM or SIGINT, and returns the exit code; raises ``ConfigError``."""
    connection = connection_to_supervisor(os.environ)
    if connection is not None:
        from bridge.supervisor.worker import serve_as_worker

        return serve_as_worker(config, sources, connection)
    return _supervise(config, sources, replace=replace)


def _supervise(config: Config, sources: Sources, *, replace: bool) -> int:
    from bridge.supervisor.process import WorkerCommand
    from bridge.supervisor.supervisor import Supervisor

    if replace:
        raise ConfigError(
            "replace: another start cannot replace workers. Send SIGUSR2 to their supervisor instead: it restarts one "
            "worker after the other with the installed code, and their calls continue at the others",
            param="replace",
        )
    given = given_sockets(os.environ)
    manager = ServiceManager(os.environ)
    is_terminal = sys.stderr.isatty()
    with logging.LineWriter(sys.stderr.fileno(), is_terminal=is_terminal) as stream:
        logging.configure(config.log.log_format, config.log.log_level, stream)
        if ignored := sources.ignored:
            _log.warning("config.variables_ignored", variables=ignored)
        command = WorkerCommand(
            words=[sys.executable, *sys.orig_argv[1:]],
            environ=dict(os.environ),
            write=stream.write,
            is_json=not logging.is_for_a_person(config.log.log_format, stream),
        )

        async def supervise() -> int:
            return await Supervisor(config, sources.load, manager, stream, command).run(given)

        with asyncio.Runner() as runner:
            return runner.run(supervise())
