"""The architectures: a file each, one call for all (`registry.build`), and where weights come from (`weights`)."""
