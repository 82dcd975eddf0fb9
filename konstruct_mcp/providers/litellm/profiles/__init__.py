"""What is settled once for a deployment: its API, how its model thinks, how its output limit is called."""
