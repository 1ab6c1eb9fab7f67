"""Pictures that are no MRI of a brain, drawn and gathered to fit and measure the picture rule."""
