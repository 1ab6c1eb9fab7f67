"""The commands of ``python -m ml`` and their options."""
