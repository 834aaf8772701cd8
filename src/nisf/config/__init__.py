"""Settings: small frozen dataclasses, the presets, single settings by name, and tables of all of them."""
