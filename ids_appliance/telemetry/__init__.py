"""What the appliance tells people."""
