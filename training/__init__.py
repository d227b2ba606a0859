"""Reproduces what the library ships: the data set, the segmenter and, later, the adapter. Not installed with it."""
