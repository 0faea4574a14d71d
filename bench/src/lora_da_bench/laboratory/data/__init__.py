"""What the laboratory trains on: texts as blocks of tokens, and texts that have a class."""
