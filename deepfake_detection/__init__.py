"""Deepfake detection: videos in, verdicts with evidence out. See docs/design.md for the rooms and what each may import."""

__version__ = "0.1.0"
