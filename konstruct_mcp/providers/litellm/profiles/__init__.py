"""What is settled once for a deployment.

profile     all of it, as one `ModelProfile`
api         which API it is asked through
limits      what its output limit is called, and how high it is
thinking    how its model thinks, and how hard the config wants it to
"""
