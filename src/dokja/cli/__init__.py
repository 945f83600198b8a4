"""The verbs a person types, one small file each. Heavy imports live inside the functions, so that --help is instant."""
