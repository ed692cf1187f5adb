"""Users' handlers: @handler and its checks, loading their modules, and classifying their exceptions."""
