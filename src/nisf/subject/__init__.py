"""The subject that is asked: answers for places and times, islands, renderings, long-axis views."""
