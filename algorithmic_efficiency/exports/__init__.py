"""A run's record in TensorBoard, Weights & Biases and MLflow, as EXPORTS.md describes.

The packages are optional, and nothing here imports one before something is exported with it.
"""
