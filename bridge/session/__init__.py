"""Conversation: what happens between a leg that brings sound and an upstream that answers, and who hears of it."""

__all__: list[str] = []
