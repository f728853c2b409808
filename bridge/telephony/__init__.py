"""Telephone calls: carriers stream a call's sound to the bridge, each in a dialect that has a package of its own."""
