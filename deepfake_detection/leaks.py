"""Checks a split for leaks: `python -m deepfake_detection.leaks DIR [--data DIR] [--manifest FILE]`. See datasets/leaks.py."""

from . import cli
from .datasets.leaks import main

if __name__ == "__main__":
    cli.run(main)
