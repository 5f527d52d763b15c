"""Spark jobs: faces to videos (stage 04), preprocessing at scale. pyspark is imported where it is needed."""
