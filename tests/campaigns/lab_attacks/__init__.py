"""Attacks by real tools in the lab, parameters drawn widely: recorded, judged, learnt from."""
