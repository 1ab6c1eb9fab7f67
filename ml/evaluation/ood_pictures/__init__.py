"""OOD pictures, no MRI of a brain: made, measured, and used to fit the rule that refuses them."""
