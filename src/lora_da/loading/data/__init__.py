"""Data: files, folders and data sets of the hub as rows in TRL's formats, and rows as tokenised examples."""
