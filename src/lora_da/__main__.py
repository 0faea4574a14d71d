"""``python -m lora_da``: the command line."""

from lora_da.cli import main

if __name__ == "__main__":
    main()
