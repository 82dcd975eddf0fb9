"""One frozen `Config` out of YAML files and the environment, and every fault of them named at once."""
