"""Values and plain helpers that every package may use: errors, requests, results, money, fairness between calls."""
