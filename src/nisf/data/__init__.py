"""The data model of a subject: geometry, slices and points, the region of interest, the anatomy."""
