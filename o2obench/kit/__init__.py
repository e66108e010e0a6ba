"""The learning parts that algorithms share (torch); every tensor has the seeds as its first axis."""
