"""The carrier Exotel, by AgentStream: the Voicebot applet and Connect streams."""
