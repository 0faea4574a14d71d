"""``lora-da sft``: TRL's supervised fine-tuning, from an adapter that LoRA-DA initialises."""
