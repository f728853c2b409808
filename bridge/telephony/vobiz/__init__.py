"""The carrier Vobiz: audio streams in Plivo's dialect."""
