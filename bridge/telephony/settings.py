"""Finds the settings of all carriers in their packages, without importing what serves the carriers."""

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass

import bridge.telephony
from bridge.config.fields import Section

__all__ = ["carrier_sections"]

_MODULE = "settings"


def carrier_sections() -> tuple[type[Section], ...]:
    """Returns the section of each carrier that has one: the ``Section`` in ``bridge/telephony/NAME/settings.py``."""
    found: list[type[Section]] = []
    for package in pkgutil.iter_modules(bridge.telephony.__path__, "bridge.telephony."):
        name = f"{package.name}.{_MODULE}"
        if package.ispkg and find_spec(name) is not None:
            of_module = vars(import_module(name)).values()
            found += (one for one in of_module if isclass(one) and issubclass(one, Section) and one is not Section)
    return tuple(found)
