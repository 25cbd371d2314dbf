"""What networks are trained to do: classes of samples, values, classes of pixels, objects in images."""
