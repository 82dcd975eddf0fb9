"""How each part of a request is written for the API that a deployment is asked through."""
