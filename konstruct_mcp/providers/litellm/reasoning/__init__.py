"""A model's reasoning: what of its text is no part of the answer, and what a provider wants to get back."""
