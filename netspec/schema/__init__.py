"""The spec language as a JSON Schema, for editors: made from the ops, the recipes and the sections themselves."""
