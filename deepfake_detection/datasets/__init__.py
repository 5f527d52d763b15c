"""From a folder of videos to a manifest, from the manifest to identity groups, from faces to a leak-free split."""
