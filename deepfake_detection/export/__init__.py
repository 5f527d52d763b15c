"""What leaves a training: files for other runtimes, and the detector that is shipped."""
