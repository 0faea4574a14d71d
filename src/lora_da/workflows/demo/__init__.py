"""A small experiment with nothing to download: LoRA-DA and plain LoRA on made-up arithmetic."""
