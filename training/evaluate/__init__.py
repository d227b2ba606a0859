"""Evaluates segmenters and adapters with the library's own code: ``python -m training.evaluate COMMAND``."""
