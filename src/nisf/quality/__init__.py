"""Judge a segmentation without labels: predicted Dice, and a warning light with its reasons."""
