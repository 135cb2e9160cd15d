"""What the design allows each part to cost, beside what it costs: `make budgets`."""
