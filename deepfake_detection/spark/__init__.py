"""Spark jobs: faces to videos (stage 04) and preprocessing at scale. pyspark is imported inside the functions that need
it."""
