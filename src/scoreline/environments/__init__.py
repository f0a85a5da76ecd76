"""Questions and rewards, in plain Python: prompts from data, and scores for answers."""
