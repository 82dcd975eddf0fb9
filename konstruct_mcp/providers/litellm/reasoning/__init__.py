"""A model's reasoning.

text       reasoning that a server has left in the text of an answer, which is no part of it
memory     the reasoning behind tool calls, kept until the calls come back as history
history    putting it back into a conversation
"""
