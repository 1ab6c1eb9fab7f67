"""The model's answers about studies: analyses, their leases, and what is said."""
