"""Judge a segmentation without labels: predicted Dice, and a traffic light with its reasons."""
