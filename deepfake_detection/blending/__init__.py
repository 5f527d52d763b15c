"""Training material made from real faces: cut once, blended, degraded alike, and drawn in pairs."""
