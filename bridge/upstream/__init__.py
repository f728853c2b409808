"""Who answers a call: services dialled, the embedded engine, attached agents."""
