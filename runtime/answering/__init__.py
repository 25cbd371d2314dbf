"""What a model says of one image or row: labels, boxes or a mask, as values, as JSON and as a picture."""
