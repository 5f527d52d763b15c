"""Frames in, faces out: boxes, crops, detectors, extraction (stage 01a and the fused path), landmarks (01b), people."""
