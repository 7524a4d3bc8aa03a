"""Our worlds as Gymnasium's, and Gymnasium's as ours."""
