"""Job types as a service sees them: the schemas that workers have announced, compiled, and what is wrong with a payload by them."""
