"""Long runs that compare the compiled record with its twin; `make nightly` starts them.

By hand, with a progress bar:
  python -m tests.campaigns.twin_all [DATA]          every packet of every capture
  python -m tests.campaigns.mutated [--packets N]    damaged packets
"""
