"""The viewer: a page on loopback that asks a subject's field for any plane at any time."""
