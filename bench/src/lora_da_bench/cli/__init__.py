"""The command line ``lora-da-bench``."""
