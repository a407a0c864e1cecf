"""Datasets: every module here whose name has no leading underscore (and is not ``base``) is a plugin of that name."""
