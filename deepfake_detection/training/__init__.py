"""Training (stage 03), prediction with a trained model (stage 03a), and the input pipelines of both."""
