"""The architectures: one file each, one call for all (`registry.build`), and where their weights come from
(`weights`)."""
