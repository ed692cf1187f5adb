"""What users write: @handler and its checks, how their modules are loaded, and what their exceptions mean."""
