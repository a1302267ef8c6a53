"""Logs that were made by hand: nvidia-smi and hl-smi polled into files, training logs in CSV."""
