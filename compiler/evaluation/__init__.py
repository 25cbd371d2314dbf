"""How good predictions are, beside the truth."""
