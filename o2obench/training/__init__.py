"""Computing a run: the loop, evaluation, exact resume, and what a result depends on."""
