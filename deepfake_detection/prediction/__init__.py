"""Many videos to verdicts: the queue of work, its processes, downloads, the table, and each video's files."""
