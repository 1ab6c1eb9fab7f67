"""Studies put right: their data, their slices, and that they are here at all."""
