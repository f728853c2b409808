"""The simulated carriers that ``bridge call --as NAME`` plays, with one file for each."""
