"""The whole system live in the lab: attacks and their benign twins in, a judged record out."""
