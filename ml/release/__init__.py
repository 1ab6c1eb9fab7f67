"""Turn a trained network into the files of a serving model."""
