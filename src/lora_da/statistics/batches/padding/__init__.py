"""Padding: along which axes a batch is padded, and where these lie in what each layer receives."""
