"""`python -m taximeter` is `taximeter`."""

from taximeter.cli import entry

if __name__ == "__main__":
    entry()
