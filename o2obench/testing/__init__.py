"""For authors of algorithms: the checks that every agent passes, and a template to start from."""
