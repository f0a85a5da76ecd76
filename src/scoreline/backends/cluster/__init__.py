"""Learners and rollout workers as processes of a Ray cluster. The only folder that knows Ray."""
