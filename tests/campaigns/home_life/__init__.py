"""Synthetic homes: days of ordinary life in virtual time, through the whole appliance."""
