"""The subject: answers at points and times, islands, renderings, long-axis views."""
