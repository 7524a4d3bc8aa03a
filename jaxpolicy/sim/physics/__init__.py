"""Physics on two engines, scenes, things and shapes."""
