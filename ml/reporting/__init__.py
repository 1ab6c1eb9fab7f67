"""Reports of measured figures: model cards, pages, tables and plots."""
