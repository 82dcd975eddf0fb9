"""What a provider's failure means: which `Fault` it is for routing, and how the request could be asked again.

`classification` decides; `error_body`, `exceptions`, `connections`, `unsent` and `retry_after` read what it decides by;
`refusals` says what to ask otherwise; `wording` and `credentials` make a provider's message fit to be shown.
"""
