"""The adapter: PEFT's side. Knows which layers of a model are adapted and how to write A and B into them."""
