"""Telephone calls: carriers stream a call's sound here, each in its own dialect, and each in a package of its own."""
