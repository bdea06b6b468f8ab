"""The adversary of the project: programs that read what `fortify render` writes."""
