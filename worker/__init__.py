"""The background tier: the only package in which the portal and the model meet."""
