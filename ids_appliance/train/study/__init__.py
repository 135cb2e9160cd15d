"""What a recipe is worth: every honest split, every sender, and the whole appliance replayed."""
