"""`python -m deepfake_detection.export`: see formats.py."""

from .. import cli
from .formats import main

cli.run(main)
