"""What a provider's failure means: which `Fault` it is for routing, and how the request could be asked again.

classification                                              decides
error_body, exceptions, connections, unsent, retry_after    what it decides by
phrases                                                     the words that tell failures apart
refusals                                                    how a refused request can be asked again
one_line, credentials                                       make a provider's message fit to be shown
"""
