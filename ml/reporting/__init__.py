"""Measured figures as pages: model cards, reports, tables and plots."""
