"""Many videos to verdicts: the queue of work, its processes, downloads, the table, and what is written of each
video."""
