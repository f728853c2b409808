"""``python -m bridge`` is ``bridge``."""

from bridge.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
