"""Scoring arithmetic: called by the probes during training and by the tasks after it."""
