"""The standard agent: a model, some tools, and the loop between them."""
