"""Exotel AgentStream: the Voicebot applet and Connect streams."""
