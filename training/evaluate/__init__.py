"""Judges what was trained, through the library's own paths: ``python -m training.evaluate segmentation …``."""
