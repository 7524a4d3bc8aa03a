"""The stages as functions of (configuration, run directory), one file a stage."""
