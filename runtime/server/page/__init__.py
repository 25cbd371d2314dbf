"""The page at ``/``: the models, their figures, and a place to ask them. Plain files, and the JSON that they poll."""
