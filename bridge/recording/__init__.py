"""The recorder, which writes what a call said and heard into files, and what becomes of these files."""
