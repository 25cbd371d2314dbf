"""Images with boxes and masks: made, read from files, varied, and put into batches for a network."""
