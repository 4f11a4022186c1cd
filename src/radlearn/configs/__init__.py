"""The configuration files that ship, as Hydra groups; a file holds only deviations from constructor defaults."""
