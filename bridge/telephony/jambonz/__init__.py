"""jambonz' verb listen (or stream), and mod_audio_fork, which the verb is made of."""
