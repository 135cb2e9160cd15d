"""The running gateway: stages assembled, driven, and open to questions and orders."""
