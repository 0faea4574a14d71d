"""The machine: files that appear whole, memory, and checks of settings."""
