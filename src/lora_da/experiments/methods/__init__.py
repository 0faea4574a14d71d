"""Initialisations of LoRA adapters, one file each, behind one interface."""
