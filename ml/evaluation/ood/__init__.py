"""Out-of-distribution detection on a collection of pictures: measured, and its rule fitted."""
