"""From a model to an artifact in MLflow."""
