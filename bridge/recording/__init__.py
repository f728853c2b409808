"""The recorder: writes what a call said and heard into files."""
