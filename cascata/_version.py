"""The version of cascata, and nothing else: the build reads this file's text, `cascata.__version__` its value."""

__version__ = "0.1.0"
