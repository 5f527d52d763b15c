"""Builds train_sample_videos/: `sources` (pictures and face points), `camera` (motion), `manipulate` (the fakes),
`catalogue` (which clips)."""
