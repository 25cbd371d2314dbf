"""What training a detector needs: targets, their assignment to outputs, losses."""
