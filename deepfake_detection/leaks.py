"""Checks a split for leaks: `python -m deepfake_detection.leaks DIR [--data DIR] [--manifest FILE]`. See
datasets/split_check.py."""

from . import cli
from .datasets.split_check import main

if __name__ == "__main__":
    cli.run(main)
