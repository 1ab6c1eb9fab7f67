"""The background tier: the only place where the portal and the model meet."""
