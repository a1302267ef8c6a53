"""Search spaces and the points drawn from them."""
