"""The HTML report of a run: what leaked, in words, figures and pictures, in one file."""
