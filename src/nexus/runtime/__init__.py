"""The composition root: builds every room from the configuration and joins them."""
