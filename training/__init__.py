"""Reproduces the weights that ship: data set, segmenter, adapters. Not installed with the library."""
