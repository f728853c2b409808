"""Who answers which model, and how they are dialled: what the settings say, checked and ready for use."""

import os
from dataclasses import dataclass

from bridge.config import UpstreamSettings
from bridge.outgoing import TLS
from bridge.upstream.dialer import RetryPolicy
from bridge.upstream.target import Target, Transport, load_profile
from bridge.webrtc.ice_full import IceServers

__all__ = ["UpstreamPlan"]

_OWN = ("local", "agent")
_DEFAULT_LIVE_MODEL = "gpt-live-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamPlan:
    """The targets of each model. A call keeps the plan that was there when it was opened."""

    default: tuple[Target, ...]
    """The targets that are tried for a model that is given to no upstream, in this order."""
    by_model: dict[str, tuple[Target, ...]]
    """The targets that are tried for each model that the settings give to an upstream."""
    default_model_setting: str
    policy: RetryPolicy
    ice_servers: IceServers
    agent_wait_s: float

    @classmethod
    def of(cls, settings: UpstreamSettings) -> "UpstreamPlan":
        """Makes the plan; raises ``ConfigError`` if a profile does not exist, or an address is not one."""
        named = {}
        for name, given in settings.upstreams.items():
            if given.kind == "cascade":
                named[name] = Target(name, Transport.CASCADE.value)
                continue
            key = os.environ.get(given.key_env) if given.key_env is not None else given.key
            profile = load_profile(given.profile, f"upstreams.{name}.profile")
            named[name] = Target(
                name,
                given.url,
                key,
                profile,
                given.model,
                is_live=given.kind == "live",
                live_compat=given.live_compat,
                live_backend_model=given.live_backend_model,
            )
        default = _target(settings.upstream, named, key=settings.upstream_key, profile=settings.upstream_profile)
        fallback = tuple(_target(name, named) for name in settings.upstream_fallback)
        return cls(
            default=(default, *fallback),
            by_model={
                model: (named[name], *fallback) for name, given in settings.upstreams.items() for model in given.models
            },
            default_model_setting=settings.default_model,
            policy=RetryPolicy(
                connect_s=settings.upstream_connect_timeout_s,
                stall_s=settings.upstream_stall_s,
                renew_s=settings.upstream_renew_s,
                tries=settings.upstream_tries,
            ),
            ice_servers=IceServers.parse(settings.upstream_ice_server, TLS),
            agent_wait_s=settings.agent_wait_s,
        )

    @property
    def default_model(self) -> str:
        """The model of calls that name none."""
        return self.default_model_of(self.default[0])

    @property
    def owners(self) -> dict[str, str]:
        """The models that a call may ask for by the settings, and the upstream of each; the default one first."""
        named = {model: targets[0].name for model, targets in self.by_model.items()}
        return {self.default_model: named.get(self.default_model, self.default[0].name), **named}

    def targets(self, model: str) -> tuple[Target, ...]:
        """The targets that are tried for a call of this model, in this order: all speak Live, or none does."""
        targets = self.by_model.get(model, self.default)
        return tuple(target for target in targets if target.is_live is targets[0].is_live)

    def translators(self, model: str) -> tuple[Target, ...]:
        """Those of them that translate."""
        return tuple(target for target in self.targets(model) if target.translates)

    def default_model_of(self, target: Target) -> str:
        """The model of the settings if it was set, or belongs to an upstream; else the usual model of ``target``."""
        setting = self.default_model_setting
        if setting != UpstreamSettings().default_model or setting in self.by_model:
            return setting
        return _DEFAULT_LIVE_MODEL if target.is_live else target.profile.default_model or setting


def _target(name: str, named: dict[str, Target], *, key: str | None = None, profile: str = "openai") -> Target:
    if name in named:
        return named[name]
    return Target(name if name in _OWN else "upstream", name, key, load_profile(profile))
