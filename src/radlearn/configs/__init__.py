"""The configuration files that ship, as Hydra groups; a file holds deviations from defaults only."""
