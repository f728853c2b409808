"""jambonz' verb listen (stream), and mod_audio_fork, which it is made of."""
