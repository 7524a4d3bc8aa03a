"""What all stages share; what a controller needs of it imports NumPy alone."""
