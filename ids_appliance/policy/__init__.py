"""From verdicts about packets to findings and decisions about senders."""
