"""Lets ``python -m bridge`` run the command ``bridge``."""

from bridge.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
