"""What benchmarks have in common: daemons and helpers to start, callers, sound, samples of a process, and output.

Nothing in here knows a benchmark.
"""
