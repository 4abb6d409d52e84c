"""Odd but healthy programs, by what is odd about them."""
