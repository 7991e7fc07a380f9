"""Migrations as a monitor has them: capabilities and parameters, the one under way, and what is said of it."""
