"""Is this segmentation any good? A predicted Dice and a light with its reasons, without labels."""
