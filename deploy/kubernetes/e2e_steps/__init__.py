"""Steps of the end-to-end test, and what they stand on. Standard library and kubectl only."""
