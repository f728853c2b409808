"""Who answers a call from outside: services that are dialled, and agents that attach."""
