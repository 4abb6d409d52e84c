"""What several questions measure with: calculus, signals through depth, training, timing, data."""
